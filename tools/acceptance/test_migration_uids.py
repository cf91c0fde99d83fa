"""`cursus migrate imap --keep-uids` from Debian's Dovecot and Cyrus: mail programs fetch nothing anew."""

import hashlib
import json
import re

from harness import corpus, moving, peers, proc
from harness.case import Case
from harness.server import PASSWORD
from test_migration import FOLDERS, MESSAGES, Migration

USER = "user1"


class KeepsUids(Migration):
    """Users have the same names on both sides, as for mail programs nothing changes."""

    uidl = None
    # Those of the base are run there.
    test_everything_comes_over_and_what_changes_later_too = None

    def serve(self, **_):
        extra = f'[pop3]\nuidl = "{self.uidl}"\n'
        return super().serve(users=(USER, "bob"), extra=extra)

    def setUp(self):
        super().setUp()
        self.users.write_text(f"{USER}\t{peers.PASSWORD}\t{USER}\n")

    def numbers(self, client, folder):
        """UIDVALIDITY, UIDNEXT, and digests of messages by UID."""
        moving.ok(client.select(moving.quoted(folder), readonly=True))
        found = {name: client.untagged_responses[name][-1] for name in ("UIDVALIDITY", "UIDNEXT")}
        digests = {}
        if client.untagged_responses["EXISTS"][-1] != b"0":
            for part in moving.ok(client.uid("FETCH", "1:*", "(UID BODY.PEEK[])")):
                if isinstance(part, tuple):
                    uid = int(re.search(rb"UID (\d+)", part[0])[1])
                    digests[uid] = hashlib.sha256(part[1]).hexdigest()
        return found, digests

    def same_numbers(self, folders=FOLDERS):
        # A new session of the source: Dovecot 2.3.19's old one has ended with SIGSEGV by then.
        wanted = moving.login(self.source_server.ports["imap"], USER, peers.PASSWORD)
        there = moving.login(self.here.ports["imap"], USER, PASSWORD)
        for folder in folders:
            self.assertEqual(self.numbers(there, folder),
                             self.numbers(wanted, self.source.name(folder)), folder)
        there.logout()
        wanted.logout()

    def mbsync(self, home, port, password):
        """Pulls everything; the files that are there, and what mbsync said."""
        (home / "rc").write_text(f"""
IMAPStore far
Host 127.0.0.1
Port {port}
User {USER}
Pass "{password}"
SSLType None
AuthMechs LOGIN
PathDelimiter /

MaildirStore near
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns * !Trash !Sent
Create Near
Sync Pull
SyncState {home}/state/
""")
        for name in ("mail", "state"):
            (home / name).mkdir(exist_ok=True)
        proc.run([self.need("mbsync"), "-c", home / "rc", "all"], seconds=60)
        return sorted(path.stat().st_ino for path in (home / "mail").rglob("*")
                      if path.is_file() and path.parent.name in ("cur", "new"))

    def test_mail_programs_fetch_nothing_anew(self):
        self.fill(MESSAGES)
        # Gaps, and UIDs behind the last message that is there.
        for folder in ("INBOX", "Work"):
            self.add(folder, 5000)
            self.add(folder, 5001)
        for folder in ("INBOX", "Work"):
            _, uids = self.numbers(self.source.client, self.source.name(folder))
            self.source.expunge(folder, f"{max(uids)},{sorted(uids)[1]}")
        here, there = (self.here.ports, PASSWORD), (self.source_server.ports, peers.PASSWORD)
        home = proc.new_dir("mb")
        files = self.mbsync(home, there[0]["imap"], there[1])
        fetched = self.fetchmail(home, USER, there[0]["pop3"], there[1])
        self.assertTrue(files and fetched)
        report = self.migrate("--keep-uids")
        self.assertEqual((report["status"], report["notes"]), ("done", []))
        self.same_numbers()
        self.source = moving.Source(self.source_server, USER, peers.PASSWORD)
        self.addCleanup(self.source.client.shutdown)
        self.compare(user=USER)
        self.nothing(self.migrate("--keep-uids"))
        self.assertEqual(self.mbsync(home, here[0]["imap"], here[1]), files)
        self.assertEqual(self.fetchmail(home, USER, here[0]["pop3"], here[1]), 0)
        self.here.deliver(corpus.plain("new"), user=USER)
        self.assertEqual(len(self.mbsync(home, here[0]["imap"], here[1])), len(files) + 1)
        self.assertEqual(self.fetchmail(home, USER, here[0]["pop3"], here[1]), 1)

    def test_no_uid_is_that_of_two_messages_and_what_cannot_be_is_refused(self):
        self.fill(12)
        self.migrate("--keep-uids")
        # Mail comes in here and there: both servers give the same UIDs, to different messages.
        own = corpus.plain("delivered here")
        self.here.deliver(own, user=USER)
        for n in (100, 101):
            self.add("INBOX", n)
        self.add("Work", 102)
        self.add("Work", 103, octets=2 << 20)
        report = self.migrate()
        self.assertEqual((report["status"], report["messages"]), ("done", 4))
        self.assertIn("INBOX: 2 messages have new UIDs", " ".join(report["notes"]))
        self.same_numbers(FOLDERS[1:])
        there = moving.login(self.here.ports["imap"], USER, PASSWORD)
        self.source.client.noop()
        _, old = self.numbers(self.source.client, self.source.name("INBOX"))
        _, new = self.numbers(there, "INBOX")
        there.logout()
        self.assertFalse([uid for uid in old.keys() & new.keys() if old[uid] != new[uid]])
        self.assertEqual(sorted(new.values()),
                         sorted([*old.values(), *(set(new.values()) - set(old.values()))]))
        self.assertEqual((len(new), len(set(new) - set(old))), (len(old) + 1, 3))
        self.nothing(self.migrate())

        # Where another message was before, or the folder came without its UIDs, nothing is done.
        self.here.deliver(own, user="bob")
        self.users.write_text(f"{USER}\t{peers.PASSWORD}\tbob\n")
        # It is said before, too.
        plan = proc.run(self.argv("--keep-uids", "--dry-run", "--state", self.work / "bobs"), check=False)
        self.assertEqual(plan.returncode, 1)
        self.assertIn(b"1 folders cannot keep their UIDs", plan.stderr)
        told = {one["source"]: one["uids_not_kept"] for one in json.loads(plan.stdout)}
        self.assertIn("has, or had, messages here already", told.pop("INBOX"))
        self.assertEqual(set(told.values()), {None})
        report = self.migrate("--keep-uids", "--state", self.work / "bobs", check=False)
        self.assertEqual(report["status"], "partial")
        [refused] = report["failed"]
        self.assertEqual(refused["folder"], "INBOX")
        self.assertIn("UIDs cannot be kept: INBOX has, or had, messages here already", refused["reason"])
        with self.here.imap("bob") as client:
            self.assertEqual(client.select("INBOX")["exists"], 1)

    def test_killed_and_run_again(self):
        self.more = ("--keep-uids",)
        self.migrate()
        self.check_killed_and_run_again(USER)
        folders = [folder for folder in FOLDERS if folder != "INBOX"]
        self.same_numbers(folders)


class FromDovecot(KeepsUids, Case):
    peer = peers.Dovecot
    uidl = "dovecot"


class FromCyrus(KeepsUids, Case):
    peer = peers.Cyrus
    uidl = "cyrus"
    test_killed_and_run_again = None
