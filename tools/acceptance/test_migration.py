"""Mail comes over from Debian's Dovecot, Cyrus and Courier while both servers serve.

`ACCEPTANCE_MIGRATION_MESSAGES` (40) messages lie in the source. A run is killed three times, from
Dovecot; with `ACCEPTANCE_MIGRATION_KILLS` so often, from each. More of both is the long form.
"""

import json
import os
import random
import signal
import subprocess
import time

from harness import corpus, moving, peers, proc
from harness.case import Case
from harness.server import PASSWORD

MESSAGES = int(os.environ.get("ACCEPTANCE_MIGRATION_MESSAGES", 40))
KILLS = os.environ.get("ACCEPTANCE_MIGRATION_KILLS")
FOLDERS = ("INBOX", "Work", "Work/Entw&APw-rfe", "Empty", "Old mail")
KEYWORDS = ("", "\\Seen", "\\Seen \\Answered", "\\Flagged $Forwarded", "\\Deleted", "\\Draft Label_1")


class Migration:
    """What the tests of each peer have in common."""

    seconds = 150 + MESSAGES // 4
    peer = None
    port = None
    tls = ("--tls", "none")
    # Options of every run.
    more = ()

    def setUp(self):
        super().setUp()
        self.only_cursus()
        if os.getuid() != 0:
            self.skipTest("peers take root")
        self.source_server = self.peer(2)
        self.addCleanup(self.source_server.stop)
        self.source_server.start()
        self.here = self.serve(users=("ann", "bob"))
        self.work = proc.new_dir("mig")
        self.users = self.work / "users"
        self.users.write_text(f"user1\t{peers.PASSWORD}\tann\n")
        self.users.chmod(0o600)
        self.source = moving.Source(self.source_server, "user1", peers.PASSWORD)
        self.addCleanup(self.source.client.shutdown)
        self.random = random.Random(7)

    def fill(self, count):
        for folder in FOLDERS[1:]:
            self.source.create(folder)
        self.source.client.subscribe(moving.quoted(self.source.name("Work")))
        filled = [folder for folder in FOLDERS if folder != "Empty"]
        for n in range(count):
            self.add(self.random.choice(filled), n)

    def add(self, folder, n, octets=None):
        octets = octets or self.random.randrange(40, 9000)
        body = b"".join(b"%06d x\r\n" % (n * 31 + i) for i in range(octets // 10 + 1))
        message = corpus.plain(f"number {n} \xfcber".encode("utf-8"), body)
        date = 1_000_000_000 + n * 86_461
        self.source.append(folder, message, KEYWORDS[n % len(KEYWORDS)], date)

    def argv(self, *options):
        port = self.port or self.source_server.ports["imap"]
        return [proc.BINARIES / "cursus", "--config", self.here.config, "--json", "migrate", "imap",
                "--host", "localhost", "--port", port, *self.tls, "--users", self.users,
                "--exclude", "Trash", "--exclude", "Sent", *self.more, *options]

    def migrate(self, *options, check=True):
        done = proc.run(self.argv(*options), seconds=self.seconds, check=check)
        return json.loads(done.stdout)[0] if done.stdout.startswith(b"[") else done

    def compare(self, folders=FOLDERS, user="ann"):
        there = moving.login(self.here.ports["imap"], user, PASSWORD)
        for folder in folders:
            wanted, found = self.source.messages(folder), moving.messages(there, folder)
            missing, more = wanted - found, found - wanted
            self.assertFalse(missing or more, f"{folder}: missing {list(missing.items())[:3]}, "
                                              f"too much {list(more.items())[:3]}")
        there.logout()

    def fetchmail(self, home, user, port, password):
        """Fetches by POP3 what it has not seen; how many."""
        out = home / "out"
        out.unlink(missing_ok=True)
        (home / "rc").write_text(
            f'poll 127.0.0.1 protocol pop3 service {port} uidl\n'
            f'  user "{user}" password "{password}" keep\n  sslproto \'\'\n'
            f'  mda "cat > /dev/null; echo x >> {out}"\n')
        (home / "rc").chmod(0o600)
        done = proc.run([self.need("fetchmail"), "-f", home / "rc", "--nosyslog", "--pidfile",
                         home / "pid", "-i", home / "ids"],
                        env={"FETCHMAILHOME": str(home), "HOME": str(home)}, check=False)
        # 1: there was no mail.
        self.assertIn(done.returncode, (0, 1), (done.stdout + done.stderr)[-3000:])
        return out.read_text().count("x") if out.exists() else 0

    def nothing(self, report):
        counts = {key: report[key] for key in ("created", "renamed", "removed", "messages", "matched",
                                               "flags", "expunged", "acl", "subscriptions", "bytes")}
        self.assertEqual(counts, dict.fromkeys(counts, 0))
        self.assertEqual((report["status"], report["failed"]), ("done", []))

    def test_everything_comes_over_and_what_changes_later_too(self):
        self.fill(MESSAGES)
        self.add("Work", 9000, octets=3 << 20)
        plan = json.loads(proc.run(self.argv("--dry-run")).stdout)
        targets = {one["target"]: one["messages"] for one in plan}
        self.assertLessEqual({"INBOX", "Work", "Work/Entwürfe", "Empty", "Old mail"}, set(targets))
        self.assertEqual(sum(targets.values()), MESSAGES + 1)
        first = self.migrate("--report", self.work / "report.csv")
        self.assertEqual((first["status"], first["messages"]), ("done", MESSAGES + 1))
        self.assertIn("user1,ann,done", (self.work / "report.csv").read_text())
        self.compare()
        listing = self.here.tool("mailbox", "list", "ann").stdout.decode()
        subscribed = [line.split("\t")[1] for line in listing.splitlines() if "subscribed" in line]
        self.assertIn("Work", subscribed)
        self.nothing(self.migrate())

        # New mail, flags both ways, removals, another name; mail here that the source never had.
        for n in range(5):
            self.add("INBOX", MESSAGES + n)
        self.source.store("Work", "1", "FLAGS", "\\Answered Later")
        self.source.store("Old mail", "2", "-FLAGS", "\\Seen \\Flagged \\Draft Label_1 $Forwarded")
        gone = self.source.expunge("Work", "2")
        self.assertGreaterEqual(gone, 1)
        self.source.rename("Old mail", "Archive 2020")
        second = self.migrate("--delete")
        self.assertEqual((second["status"], second["messages"], second["expunged"]), ("done", 5, gone))
        self.assertEqual((second["renamed"], second["created"]), (1, 0))
        folders = [f if f != "Old mail" else "Archive 2020" for f in FOLDERS]
        self.compare(folders)
        self.nothing(self.migrate("--delete"))

        # What rules leave out is neither gone nor under another name.
        part = self.migrate("--delete", "--only", "INBOX")
        self.nothing(part)
        self.compare(folders)

        # What was changed here stays, where the source does not change it.
        own = corpus.plain("delivered here")
        self.here.deliver(own, user="ann")
        self.source.delete("Empty")
        third = self.migrate("--delete")
        self.assertEqual((third["removed"], third["expunged"], third["messages"]), (1, 0, 0))
        with self.here.imap("ann") as client:
            self.assertEqual(client.select("INBOX")["exists"],
                             sum(self.source.messages("INBOX").values()) + 1)

    def check_killed_and_run_again(self, user="ann"):
        """kill -9 at any moment: nothing is missing, nothing is twice, mail arrives meanwhile."""
        self.fill(MESSAGES)
        self.add("Work", 9001, octets=2 << 20)
        arrived = 0
        for round in range(int(KILLS or 3)):
            child = subprocess.Popen(
                [str(a) for a in self.argv("--max-rate", "600K")],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(self.random.uniform(0.1, 1.0) * (1 + round % 3) / 2)
            self.here.deliver(corpus.plain(f"meanwhile {round}"), user=user)
            arrived += 1
            child.send_signal(signal.SIGKILL)
            child.communicate()
        last = self.migrate()
        self.assertEqual(last["status"], "done", last)
        self.compare([folder for folder in FOLDERS if folder != "INBOX"], user)
        there = moving.login(self.here.ports["imap"], user, PASSWORD)
        wanted, found = self.source.messages("INBOX"), moving.messages(there, "INBOX")
        self.assertEqual(sum((wanted - found).values()), 0)
        self.assertEqual(sum((found - wanted).values()), arrived)
        self.nothing(self.migrate())


class FromDovecot(Migration, Case):
    peer = peers.Dovecot
    tls = ("--tls", "starttls", "--insecure")

    def test_killed_and_run_again(self):
        self.check_killed_and_run_again()

    def test_dropped_connections_are_made_anew(self):
        self.fill(30)
        self.add("Work", 9002, octets=1200000)
        cutter = moving.Cutter(self.source_server.ports["imap"], 1300000)
        self.addCleanup(cutter.close)
        self.port, self.tls = cutter.port, ("--tls", "none")
        first = self.migrate()
        self.assertEqual(first["status"], "done")
        cutter.octets = 45000
        for n in range(40):
            self.add("INBOX", 100 + n, octets=4000)
        second = self.migrate()
        self.assertEqual((second["status"], second["messages"]), ("done", 40))
        self.assertGreater(second["retries"], 1)
        self.compare()
        # The same server by another port: nothing comes twice.
        self.port = None
        third = self.migrate()
        self.assertEqual((third["status"], third["messages"], third["matched"]), ("done", 0, 71))
        self.assertIn(f"localhost:{cutter.port}", third["notes"][0])
        self.compare()

    def through(self, answer):
        """Has the source answer through a proxy."""
        if hasattr(self, "faulty"):
            self.faulty.close()
        self.faulty = moving.Faulty(self.source_server.ports["imap"], answer)
        self.addCleanup(self.faulty.close)
        self.port, self.tls = self.faulty.port, ("--tls", "none")

    def test_a_source_that_ends_connections_after_few_commands(self):
        self.fill(10)
        more = [f"More {n:02}" for n in range(9)]
        for folder in more:
            self.source.create(folder)
        self.add(more[7], 5000)
        # Fewer than there are folders, each time another end.
        self.through(lambda number, _: (None, "cut", "bye")[(number > 9) * (1 + number % 2)])
        plan = json.loads(proc.run(self.argv("--dry-run")).stdout)
        self.assertEqual(sum(one["messages"] for one in plan), 11)
        self.assertLessEqual(set(more), {one["target"] for one in plan})
        self.assertGreater(self.faulty.connections, 3)
        report = self.migrate()
        self.assertEqual((report["status"], report["messages"]), ("done", 11), report)
        self.assertLess(report["seconds"], 60)
        self.compare(FOLDERS + (more[7], more[8]))
        # A source that never lets anything be done is told after a bounded number of connections.
        self.through(lambda number, _: "cut" if number > 2 else None)
        report = self.migrate("--retries", "2", check=False)
        self.assertEqual(report["status"], "failed", report)
        self.assertLessEqual(self.faulty.connections, 5)

    def test_folders_and_messages_that_the_source_refuses_keep_no_other_back(self):
        self.fill(12)
        for n in range(3):
            self.add("Old mail", 5000 + n)
        self.source.client.select(moving.quoted("Old mail"), readonly=True)
        [uids] = moving.ok(self.source.client.uid("SEARCH", "ALL"))
        breaking, refused = uids.decode().split()[:2]
        faults = {"on": True, "asked": 0}

        def answer(_, line):
            if not faults["on"]:
                return None
            if "Empty" in line and line.startswith(("STATUS", "EXAMINE")):
                return "NO [NOPERM] Not yours"
            if "Entw" in line and line.startswith("EXAMINE"):
                return "NO [SERVERBUG] Internal error occurred"
            if line.startswith("EXAMINE"):
                faults["at"] = line
            if line.startswith("UID FETCH") and "Old mail" in faults["at"]:
                asked = line.split()[2]
                # Its facts alone break the connection; of another one the octets are refused.
                if holds(asked, breaking):
                    faults["asked"] += 1
                    return "cut"
                if holds(asked, refused) and "BODY" in line:
                    return "NO Cannot be read"
            return None

        def holds(asked, uid):
            ends = [part.split(":") for part in asked.split(",")]
            return any(int(end[0]) <= int(uid) <= int(end[-1]) for end in ends)

        self.through(answer)
        report = self.migrate(check=False)
        self.assertEqual(report["status"], "partial", report)
        missing = {(one["folder"], one["uid"]) for one in report["failed"]}
        self.assertEqual(missing, {("Empty", None), ("Work/Entwürfe", None),
                                   ("Old mail", int(breaking)), ("Old mail", int(refused))}, report)
        self.assertLess(report["seconds"], 60, report)
        self.assertLessEqual(faults["asked"], 8)
        self.compare(("INBOX", "Work"))
        faults["on"] = False
        again = self.migrate()
        self.assertEqual((again["status"], again["failed"]), ("done", []))
        self.compare()
        self.nothing(self.migrate())

    def test_a_target_over_quota_is_told_and_gone_on_with(self):
        self.fill(6)
        self.add("INBOX", 5000, octets=60000)
        self.here.tool("quota", "set", "ann", "--storage", "40K")
        report = self.migrate(check=False)
        self.assertEqual(report["status"], "partial", report)
        self.assertIn("quota", report["error"] or report["failed"][0]["reason"])
        self.here.tool("quota", "set", "ann", "--remove")
        self.assertEqual(self.migrate()["status"], "done")
        self.compare()

    def test_a_message_that_cannot_be_read_keeps_no_other_back(self):
        self.fill(12)
        self.add("INBOX", 9004, octets=1200000)
        inbox = self.source_server.dir / "mail" / "user1" / "cur"
        files = sorted(inbox.iterdir(), key=lambda path: path.stat().st_size)
        bad = [files[0], files[-1]]
        for path in bad:
            path.chmod(0)
        report = self.migrate(check=False)
        self.assertEqual(report["status"], "partial", report)
        self.assertEqual({one["folder"] for one in report["failed"]}, {"INBOX"})
        self.assertEqual((len(report["failed"]), report["messages"]), (2, 11), report)
        self.assertLess(report["seconds"], 30, report)
        for path in bad:
            path.chmod(0o600)
        again = self.migrate()
        self.assertEqual((again["status"], again["messages"], again["failed"]), ("done", 2, []))
        self.source = moving.Source(self.source_server, "user1", peers.PASSWORD)
        self.addCleanup(self.source.client.shutdown)
        self.compare()

    def test_a_source_that_cannot_be_reached_is_told_at_once(self):
        began = time.monotonic()
        self.tls = ("--tls", "starttls")
        distrusted = self.migrate(check=False)
        self.assertEqual(distrusted.returncode, 78)
        self.assertIn(b"source localhost:", distrusted.stderr)
        self.assertIn(b"TLS: ", distrusted.stderr)
        self.port = proc.free_base([0])
        nobody = self.migrate(check=False)
        self.assertEqual(nobody.returncode, 69)
        self.assertIn(f"source localhost:{self.port}: ".encode(), nobody.stderr)
        self.assertLess(time.monotonic() - began, 20)

    def test_copies_that_are_there_are_found_and_wrong_passwords_told(self):
        self.fill(20)
        for folder in FOLDERS:
            name = folder.replace("&APw-", "ü")
            if folder != "INBOX":
                self.here.tool("mailbox", "create", "ann", name)
        there = moving.login(self.here.ports["imap"], "ann", PASSWORD)
        copied = 0
        for folder in ("INBOX", "Work"):
            self.source.client.select(moving.quoted(self.source.name(folder)), readonly=True)
            for part in moving.ok(self.source.client.uid("FETCH", "1:3", "(UID BODY.PEEK[])")):
                if isinstance(part, tuple):
                    moving.ok(there.append(moving.quoted(folder), None, None, part[1]))
                    copied += 1
        there.logout()
        self.users.write_text("user1\twrong\tann\n")
        wrong = self.migrate(check=False)
        self.assertEqual(wrong["status"], "failed")
        self.assertIn("login refused", wrong["error"])
        self.users.write_text(f"user1\t{peers.PASSWORD}\tann\n")
        report = self.migrate("--match", "message-id")
        self.assertEqual((report["matched"], report["messages"]), (copied, 20 - copied))
        self.nothing(self.migrate())


class FromCyrus(Migration, Case):
    peer = peers.Cyrus

    def test_names_that_a_maildir_has_no_place_for_are_told_before(self):
        self.add("INBOX", 1)
        long = "/".join(letter * 100 for letter in "abc")
        for n in range(3):
            self.source.create(long[:101 * n + 100])
        self.source.create("example.org")
        self.add("example.org", 2)
        told = proc.run(self.argv("--dry-run"), check=False)
        self.assertEqual(told.returncode, 1)
        cannot = {one["source"]: one["cannot_be"] for one in json.loads(told.stdout) if one["cannot_be"]}
        self.assertEqual(set(cannot), {long, "example.org"})
        self.assertEqual({one["folder"]: one["reason"] for one in self.migrate(check=False)["failed"]},
                         cannot)
        others = ("--regex", "[.]=>_", "--regex", "^a+/b+/=>short/")
        proc.run(self.argv("--dry-run", *others))
        again = self.migrate(*others)
        self.assertEqual((again["status"], again["messages"]), ("done", 1))
        self.assertIn("example_org", self.here.tool("mailbox", "list", "ann").stdout.decode())

    def test_a_master_user_brings_access_lists_along(self):
        self.fill(6)
        client = self.source.client
        moving.ok(client.setacl("Work", "user2", "lrs"))
        moving.ok(client.setacl("Work", "anyone", "l"))
        secret = self.work / "master"
        secret.write_text(peers.PASSWORD + "\n")
        secret.chmod(0o600)
        self.users.write_text("user1\tann\nuser2\tbob\n")
        options = ("--master-user", "cyrus", "--master-password-file", secret, "--jobs", "2")
        done = json.loads(proc.run(self.argv(*options)).stdout)
        self.assertEqual([one["status"] for one in done], ["done", "done"], done)
        self.assertEqual([one["target"] for one in done], ["ann", "bob"])
        self.compare()
        there = moving.login(self.here.ports["imap"], "ann", PASSWORD)
        [acl] = moving.ok(there.getacl("Work"))
        self.assertIn(b"bob lrs", acl)
        self.assertIn(b"anyone l", acl)
        moving.ok(client.deleteacl("Work", "anyone"))
        self.assertEqual(self.migrate(*options)["acl"], 1)
        [acl] = moving.ok(there.getacl("Work"))
        self.assertNotIn(b"anyone", acl)
        there.logout()

    if KILLS:
        def test_killed_and_run_again(self):
            self.check_killed_and_run_again()


class FromCourier(Migration, Case):
    peer = peers.Courier

    def test_names_that_become_the_same_here_are_told_and_can_be_told_apart(self):
        client = self.source.client
        odd = ["INBOX", "50% *off*", "~home", " edge ", "work", "Work", "a_b", "R&-D"]
        for folder in odd[1:]:
            self.source.create(folder)
        for n, folder in enumerate(odd):
            self.add(folder, n)
        for name in ("INBOX.INBOX", "INBOX.INBOX.deeper"):
            moving.ok(client.create(moving.quoted(name)))
        alike = ("--regex", "^work$=>Work")
        told = proc.run(self.argv("--dry-run", *alike), check=False)
        self.assertEqual(told.returncode, 1, told)
        self.assertIn(b"INBOX.Work, INBOX.work would all become Work", told.stderr)
        # As the source writes it: the rule for all else does not get it.
        apart = (*alike, "--map", "INBOX.work=work")
        plan = json.loads(proc.run(self.argv("--dry-run", *apart)).stdout)
        targets = {one["source"]: one["target"] for one in plan}
        self.assertEqual((targets["INBOX.work"], targets["INBOX.Work"]), ("work", "Work"))
        self.assertEqual(targets["INBOX.INBOX"], "INBOX/INBOX")
        self.assertEqual(targets["INBOX.INBOX.deeper"], "INBOX/deeper")
        report = self.migrate(*apart)
        self.assertEqual((report["status"], report["messages"]), ("done", len(odd)), report)
        self.compare(odd)
        self.nothing(self.migrate(*apart))

    if KILLS:
        def test_killed_and_run_again(self):
            self.check_killed_and_run_again()
