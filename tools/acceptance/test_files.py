"""Mail in files of other programs: brought in and written, as those programs read and write them."""

import hashlib
import imaplib
import json
import mailbox
import os
import pathlib
import shutil

from harness import corpus, moving, peers, proc
from harness.case import Case
from harness.server import PASSWORD
from test_clients import Terminal

FORMS = ("mboxrd", "mboxcl2", "maildir", "mh", "eml", "mbox", "mboxcl")
# Reversible, octet for octet, with flags and dates.
FAITHFUL = FORMS[:5]


class Files(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()
        self.here = self.serve(users=("ann", "bob"))
        self.work = proc.new_dir("files")

    def tool(self, *arguments, check=True):
        return self.here.tool(*arguments, check=check, seconds=120)

    def all_of(self, user):
        client = moving.login(self.here.ports["imap"], user, PASSWORD)
        names = [line.split('"/" ')[-1].strip('"') for line in
                 (one.decode() for one in moving.ok(client.list('""', '"*"')))]
        found = {name: moving.messages(client, name) for name in names}
        client.logout()
        return found

    def fill(self):
        """Odd messages and real ones, with flags and dates, in nested mailboxes."""
        client = moving.login(self.here.ports["imap"], "ann", PASSWORD)
        for name in ("Work", "Work/Old", "Work/Empty", "Entw&APw-rfe"):
            moving.ok(client.create(moving.quoted(name)))
        real, _ = corpus.real_messages()
        odd = [
            b"Subject: quoting\r\n\r\nFrom here\r\n>From there\r\n>>From deeper\r\n",
            b"Subject: dated\r\n\r\nFrom jo@x Thu Jan  1 00:00:01 2026\r\n\r\nFrom jo@x Thu Jan  1 00:00:01 2026\r\n",
            b"Subject: no end\r\n\r\nthe last line has no end",
            b"Subject: only a header\r\n",
            b"Subject: empty\r\n\r\n",
            b"Subject: lengths\r\nContent-Length: 3\r\nStatus: RO\r\n\r\nmore than three\r\n\r\n\r\n",
            b"Subject: ends\r\n\r\n\r\n\r\n",
            "Subject: ü\r\n\r\nü ß\r\n".encode(),
        ]
        flags = ("", "\\Seen", "\\Seen \\Answered", "\\Flagged $Forwarded", "\\Deleted Later", "\\Draft")
        for n, message in enumerate(odd + list(real[:60])):
            where = ("INBOX", "Work", "Work/Old", "Entw&APw-rfe")[n % 4]
            stamp = imaplib.Time2Internaldate(1_100_000_000 + n * 86_461)
            moving.ok(client.append(moving.quoted(where), f"({flags[n % len(flags)]})", stamp, message))
        client.logout()

    def test_what_is_exported_comes_back(self):
        self.fill()
        wanted = self.all_of("ann")
        self.assertGreater(len(wanted), 3)
        for form in FORMS:
            self.empty("bob")
            with self.subTest(form=form):
                where = self.work / form
                status = ["--status"] if form.startswith("mbox") else []
                done = self.tool("export", form, "--user", "ann", "--to", where, *status)
                again = self.tool("export", form, "--user", "ann", "--to", where, *status, check=False)
                self.assertNotEqual(again.returncode, 0, "a file was written over")
                strip = ["--status", "--strip-status"] if status else []
                self.tool("import", form, "--user", "bob", *strip, where)
                found = self.all_of("bob")
                if form == "eml":
                    bare = lambda all: {name: sorted((m[0], m[2]) for m in messages.elements())
                                        for name, messages in all.items()}
                    self.assertEqual(bare(found), bare(wanted))
                elif form in FAITHFUL:
                    self.assertEqual(found, wanted)
                else:
                    # Told which: a line ">From " is not told from a quoted one.
                    told = done.stderr.count(b'comes back as "From "')
                    differ = sum(sum((messages - found[name]).values())
                                 for name, messages in wanted.items())
                    self.assertEqual(differ, told)
                    self.assertGreater(told, 0)
                # What is there is not brought in again.
                resumed = json.loads(self.tool("--json", "import", form, "--user", "bob", "--resume",
                                               *strip, where).stdout)
                self.assertEqual(resumed["imported"], 0)

    def empty(self, user):
        client = moving.login(self.here.ports["imap"], user, PASSWORD)
        for line in moving.ok(client.list('""', '"*"')):
            name = line.decode().split('"/" ')[-1].strip('"')
            moving.ok(client.select(moving.quoted(name)))
            client.store("1:*", "+FLAGS", "\\Deleted")
            moving.ok(client.expunge())
            client.unselect()
            if name != "INBOX":
                client.delete(moving.quoted(name))
        client.logout()

    def bodies_of(self, user, name="INBOX"):
        with self.here.imap(user) as client:
            client.select(name)
            return sorted(hashlib.sha256(one).hexdigest() for one in client.bodies().values())

    def test_python_reads_and_writes_them_too(self):
        self.fill()
        client = moving.login(self.here.ports["imap"], "ann", PASSWORD)
        wanted = moving.messages(client, "INBOX")
        client.logout()
        count = sum(wanted.values())
        kinds = {"mboxrd": mailbox.mbox, "maildir": mailbox.Maildir, "mh": mailbox.MH}
        for form, kind in kinds.items():
            with self.subTest(form=form):
                to = self.work / f"py-{form}"
                self.tool("export", form, "--user", "ann", "--mailbox", "INBOX", "--to", to)
                box = kind(str(to), create=False)
                self.assertEqual(len(box), count)
                subjects = sorted(str(one["subject"]) for one in box)
                self.assertEqual(len(subjects), count)
                if form == "mh":
                    self.assertIn("replied", box.get_sequences())
                    unseen = sum(n for (_, flags, _), n in wanted.items() if "\\Seen" not in flags)
                    self.assertEqual(len(box.get_sequences().get("unseen", [])), unseen)
                if form == "maildir":
                    seen = sum("S" in one.get_flags() for one in box)
                    self.assertEqual(seen, sum(n for (_, f, _), n in wanted.items() if "\\Seen" in f))
        # What Python writes is read: its mbox is mboxo.
        made = mailbox.mbox(str(self.work / "made.mbox"))
        for n in range(3):
            one = mailbox.mboxMessage(corpus.plain(f"made {n}", b"From x\r\ny\r\n").replace(b"\r\n", b"\n"))
            one.set_flags("RF" if n else "")
            made.add(one)
        made.close()
        told = json.loads(self.tool("--json", "import", "mbox", "--user", "bob", "--mailbox", "Made",
                                    "--status", self.work / "made.mbox").stdout)
        self.assertEqual(told["mailboxes"], {"Made": 3})
        folder = mailbox.MH(str(self.work / "made.mh"))
        for n in range(5):
            folder.add(corpus.plain(f"mh {n}").replace(b"\r\n", b"\n"))
        folder.set_sequences({"unseen": [1, 2, 4], "flagged": [3], "replied": [4, 5], "later": [2]})
        folder.close()
        told = json.loads(self.tool("--json", "import", "mh", "--user", "bob", "--mailbox", "Mh",
                                    self.work / "made.mh").stdout)
        self.assertEqual(told["mailboxes"], {"Mh": 5})
        client = moving.login(self.here.ports["imap"], "bob", PASSWORD)
        flags = sorted(m[1] for m in moving.messages(client, "Mh").elements())
        self.assertEqual(flags, [(), ("\\Answered",), ("\\Answered", "\\Seen"),
                                 ("\\Flagged", "\\Seen"), ("later",)])
        flags = sorted(m[1] for m in moving.messages(client, "Made").elements())
        self.assertEqual(flags, [(), ("\\Flagged", "\\Seen"), ("\\Flagged", "\\Seen")])
        client.logout()

    def test_formail_and_mutt(self):
        formail, mutt = self.need("formail", "mutt")
        self.fill()
        to = self.work / "inbox.mboxrd"
        self.tool("export", "mboxrd", "--user", "ann", "--mailbox", "INBOX", "--to", to)
        count = len(self.bodies_of("ann"))
        split = self.work / "split"
        split.mkdir()
        proc.run(["sh", "-c", f"{formail} -s sh -c 'cat > {split}/$FILENO' < {to}"])
        self.assertEqual(len(list(split.iterdir())), count)
        # mutt copies the mbox into folders of its own; they come in. It asks to make a missing ~/Mail.
        (self.work / "Mail").mkdir()
        for kind in ("MH", "Maildir", "mbox"):
            with self.subTest(kind=kind):
                target = self.work / f"mutt-{kind}"
                if kind == "MH":
                    target.mkdir()
                    (target / ".mh_sequences").touch()
                rc = self.work / f"rc-{kind}"
                rc.write_text(f"set mbox_type={kind}\nset confirmcreate=no\nset confirmappend=no\n"
                              "set move=no\nset quit=yes\nset wait_key=no\n"
                              f"push '<tag-pattern>~A<enter><tag-prefix><copy-message>{target}<enter><quit>'\n")
                terminal = Terminal([mutt, "-n", "-F", str(rc), "-R", "-f", str(to)],
                                    {"TERM": "xterm", "HOME": str(self.work), "LINES": "40",
                                     "COLUMNS": "120"}, self.work / f"screen-{kind}")
                self.assertEqual(terminal.finish(30), 0)
                form = {"MH": "mh", "Maildir": "maildir", "mbox": "mboxrd"}[kind]
                told = json.loads(self.tool("--json", "import", form, "--user", "bob", "--mailbox",
                                            f"Mutt{kind}", target).stdout)
                self.assertEqual((told["imported"], told["failed"]), (count, []))

    def test_damage_is_named_and_the_rest_comes(self):
        box = self.work / "cut.mbox"
        box.write_bytes(b"From a Thu Jan  1 00:00:01 2026\nSubject: 1\nContent-Length: 2\n\na\n\n"
                        b"From b Thu Jan  1 00:00:02 2026\nSubject: 2\nContent-Length: 5000\n\nb\n")
        done = self.tool("import", "mboxcl2", "--user", "bob", "--mailbox", "Cut", box, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cut.mbox: at byte 65: Content-Length 5000, but 2 bytes are left", done.stderr)
        self.assertEqual(len(self.bodies_of("bob", "Cut")), 2)
        nothing = self.tool("import", "mbox", "--user", "bob", "--dry-run", box)
        self.assertIn(b"INBOX\t2", nothing.stdout)
        self.assertEqual(self.bodies_of("bob"), [])

    def test_a_store_of_dovecots_own_form(self):
        """sdbox as Debian's Dovecot writes it, with a base index and a log: all messages and flags."""
        if os.getuid() != 0:
            self.skipTest("peers take root")
        peer = peers.Dovecot(1)
        self.addCleanup(peer.stop)
        peer.base = proc.free_base(peers.PORTS)
        peer.script("start", "--users", 1, "--port", peer.base, "--layout", "sdbox")
        peer.ports = json.loads((peer.dir / "peer.json").read_text())
        client = moving.login(peer.ports["imap"], "user1", peers.PASSWORD)
        moving.ok(client.create("Work"))
        for n in range(220):
            flags = ("", "\\Seen", "\\Answered Later", "\\Flagged $Label1")[n % 4]
            message = corpus.plain(f"dbox {n}", b"x\r\n" * (n % 50))
            moving.ok(client.append("Work" if n % 5 == 0 else "INBOX", f"({flags})",
                                    imaplib.Time2Internaldate(1_200_000_000 + n), message))
        moving.ok(client.select("INBOX"))
        for n in range(1, 60):
            moving.ok(client.uid("STORE", str(n), "+FLAGS" if n % 2 else "-FLAGS", "(\\Seen Odd)"))
        moving.ok(client.uid("STORE", "70:80", "+FLAGS", "(\\Deleted)"))
        moving.ok(client.expunge())
        wanted = {name: moving.messages(client, name) for name in ("INBOX", "Work")}
        client.logout()
        mail = pathlib.Path(peer.dir) / "mail" / "user1"
        copy = self.work / "dbox"
        peer.stop()
        shutil.copytree(mail, copy)
        peer.stop = lambda: None
        told = json.loads(self.tool("--json", "import", "dbox", "--user", "bob", copy).stdout)
        self.assertEqual(told["failed"], [])
        self.assertEqual(self.all_of("bob"), wanted)

    def test_dovecot_reads_an_exported_sdbox_as_it_is(self):
        """Messages, flags, keywords, dates and numbers; nothing is rebuilt or mended."""
        if os.getuid() != 0:
            self.skipTest("peers take root")
        self.fill()
        with self.here.imap("ann") as client:
            client.select("Work")
            client.ok(r"STORE 1 +FLAGS (\Deleted)")
            client.ok("EXPUNGE")
        self.tool("export", "dbox", "--user", "ann", "--to", self.work / "dbox")
        again = self.tool("export", "dbox", "--user", "ann", "--to", self.work / "dbox", check=False)
        self.assertEqual(again.returncode, 1, "what is there stays")
        peer = peers.Dovecot(1)
        self.addCleanup(peer.stop)
        mail = peer.dir / "mail"
        mail.mkdir()
        shutil.copytree(self.work / "dbox", mail / "user1")
        proc.run(["chown", "-R", "mail:mail", mail])
        peer.base = proc.free_base(peers.PORTS)
        peer.script("start", "--users", 1, "--port", peer.base, "--layout", "sdbox")
        there = json.loads((peer.dir / "peer.json").read_text())["imap"]
        theirs = moving.login(there, "user1", peers.PASSWORD)
        ours = moving.login(self.here.ports["imap"], "ann", PASSWORD)
        for name in ("INBOX", "Work", "Work/Old", "Entw&APw-rfe"):
            self.assertEqual(moving.messages(theirs, name), moving.messages(ours, name), name)
            numbers = [{what: client.untagged_responses[what] for what in ("UIDVALIDITY", "UIDNEXT")}
                       for client in (theirs, ours)]
            self.assertEqual(*numbers)
            uids = [moving.ok(client.uid("SEARCH", "ALL")) for client in (theirs, ours)]
            self.assertEqual(*uids)
        ours.logout()
        # Dovecot goes on with it.
        moving.ok(theirs.select("Work"))
        moving.ok(theirs.append("Work", r"(\Seen Later)", None, corpus.plain("behind")))
        moving.ok(theirs.store("1", "+FLAGS", r"(\Flagged New)"))
        wanted = moving.messages(theirs, "Work")
        theirs.logout()
        log = (peer.dir / "dovecot.log").read_text()
        for word in ("Error", "Warning", "Corrupted", "ebuild", "Fatal", "Panic"):
            self.assertNotIn(word, log)
        done = proc.run([proc.find_program("doveadm"), "-c", peer.dir / "dovecot.conf", "fetch", "-u", "user1",
                         "uid flags date.received", "mailbox", "Work"])
        self.assertEqual(done.stdout.count(b"uid:"), sum(wanted.values()))
        peer.stop()
        peer.stop = lambda: None
        told = json.loads(self.tool("--json", "import", "dbox", "--user", "bob", mail / "user1").stdout)
        self.assertEqual(told["failed"], [])
        self.assertEqual(self.all_of("bob")["Work"], wanted)


class FolderNames(Case):
    def test_folders_of_many_get_other_names_and_back(self):
        self.only_cursus()
        here = self.serve(users=("ann", "bob"))
        work = proc.new_dir("names")
        for user in ("ann", "bob"):
            for name in ("Sent Items", "Sent Items/2020", "Deep/er"):
                here.tool("mailbox", "create", user, name)
            here.tool("mailbox", "subscribe", user, "Sent Items/2020")
        one = corpus.plain("kept")
        with here.imap("ann") as client:
            client.append("Sent Items/2020", one)

        def listing():
            lines = here.tool("mailbox", "list").stdout.decode().splitlines()
            fields = [line.split("\t") for line in lines]
            return sorted((f[0], f[1], f[2], "subscribed" in f[-1]) for f in fields)

        before = listing()
        table = work / "map"
        table.write_text("*\tSent Items\tSent\nann\tDeep\tArchive/Deep\n")
        dry = here.tool("folders", "rename", "--map", table, "--dry-run").stdout.decode()
        self.assertEqual(dry.count("planned"), 3)
        self.assertEqual(listing(), before)
        here.tool("mailbox", "create", "bob", "Sent")
        refused = here.tool("folders", "rename", "--map", table, check=False)
        self.assertEqual(refused.returncode, 65)
        self.assertIn(b"Sent Items cannot become Sent", refused.stderr)
        here.tool("mailbox", "delete", "bob", "Sent")
        self.assertEqual(listing(), before)
        here.tool("folders", "rename", "--map", table)
        after = listing()
        self.assertIn(("ann", "Sent/2020", "1", True), after)
        self.assertIn(("ann", "Archive/Deep/er", "0", False), after)
        self.assertIn(("bob", "Deep/er", "0", False), after)
        again = here.tool("folders", "rename", "--map", table, check=False)
        self.assertEqual(again.returncode, 0, again.stderr)
        here.tool("folders", "rename", "--map", work / "map.undo")
        self.assertEqual(listing(), before)


class LearnedPasswords(Case):
    def test_a_login_here_is_tried_there_once(self):
        """curl logs in through us to Debian's Dovecot; then that is stopped and the login still works."""
        self.only_cursus()
        if os.getuid() != 0:
            self.skipTest("peers take root")
        curl = self.need("curl")
        for protocol, tls in (("imap", "starttls"), ("pop3", "implicit")):
            with self.subTest(protocol=protocol):
                peer = peers.Dovecot(2)
                self.addCleanup(peer.stop)
                peer.start()
                ports = json.loads((peer.dir / "peer.json").read_text())
                port = ports[protocol + ("s" if tls == "implicit" else "")]
                learn = (f'[auth.learn]\nserver = "localhost:{port}"\nprotocol = "{protocol}"\n'
                         f'tls = "{tls}"\nca = "{peer.dir / "cert.pem"}"\nuntil = "2099-01-01"\n'
                         f'name = "local"\ntimeout_seconds = 5\n')
                here = self.serve(users=("admin",), extra=learn)
                users = here.state / "users"
                users.write_text(users.read_text() + "user1@example.org:\nuser2@example.org:\n")

                def login(user, password, kind="imap"):
                    url = f"{kind}://localhost:{here.ports[kind]}/"
                    return proc.run([curl, "-s", "-k", url, "-u", f"{user}@example.org:{password}"],
                                    check=False).returncode

                self.assertEqual(login("user1", "wrong"), 67)
                self.assertIn("user1@example.org:\n", users.read_text())
                self.assertEqual(login("user1", peers.PASSWORD), 0)
                self.assertIn("user1@example.org:{ARGON2ID}", users.read_text())
                self.assertNotIn(peers.PASSWORD, users.read_text() + here.log())
                record = (here.state / "learned.jsonl").read_text()
                self.assertEqual(record.count("\n"), 1)
                self.assertIn("user1@example.org", record)
                self.assertIn("password learned", here.log())
                peer.stop()
                peer.stop = lambda: None
                self.assertEqual(login("user1", peers.PASSWORD, "pop3"), 0)
                self.assertEqual(login("user1", "wrong"), 67)
                # Nobody can be asked: that is no wrong password.
                with here.imap(None) as client:
                    answer = client.command(f"LOGIN user2@example.org {peers.PASSWORD}")[-1]
                    self.assertIn(b"NO [UNAVAILABLE]", answer)
                self.assertIn("user2@example.org:\n", users.read_text())
