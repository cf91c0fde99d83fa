"""Cursus and Debian's Courier, Dovecot and Cyrus in turn on one store: no client notices."""

import imaplib
import os
import random
import re
import threading
import time

from harness import proc
from harness.alternation import MAIL_UID, PASSWORD, USER, Alternation, Turn
from harness.case import Case
from harness.courier_extras import Extras, message
from harness.cyrus_alternation import CyrusAlternation
from harness.filesystem_folders import FilesystemFolders
from harness.shared_folders import SharedFolders


class Takeover(Case):
    def alternate(self, old):
        if os.getuid() != 0:
            self.skipTest("peers take root")
        run = Alternation(old, seed=3)
        self.addCleanup(run.stop)
        run.run(3, changes=10)
        self.need("mbsync")
        self.need("getmail")
        run.nothing_is_fetched_twice()
        self.assertGreater(len(run.journal), 20)
        complaints = run.cursus.complaints()
        self.assertEqual(complaints, [])

    def test_courier(self):
        self.alternate("courier")

    def test_couriers_shared_folders(self):
        if os.getuid() != 0:
            self.skipTest("peers take root")
        run = SharedFolders(seed=5)
        self.addCleanup(run.stop)
        told = run.run(2)
        self.assertEqual(told["user2", ("select", "#shared.lists.News")], "OK")
        self.assertIn(("#shared.staff.boss.Box", False), told["user2", ("list", "#shared.*")])
        self.assertEqual(run.cursus.complaints(), [])

    def test_couriers_folders_on_the_filesystem(self):
        """A reader's copies, his flags in them, and what is removed of the original."""
        if os.getuid() != 0:
            self.skipTest("peers take root")
        run = FilesystemFolders()
        self.addCleanup(run.stop)
        run.make()
        client = run.session()
        client.subscribe("shared.team.Ro")
        client.select("shared.team.Open")
        client.store("1", "+FLAGS", "(\\Seen kw1)")
        client.store("2", "+FLAGS", "(\\Flagged)")
        client.logout()
        run.turn("cursus")
        self.assertEqual(run.kinds("Open"), (0, 4))
        told = run.told()
        self.assertEqual(told["list", "shared.%"], [("shared.team", True)])
        self.assertIn(("shared.team.Open.Deep", False), told["list", "*"])
        self.assertNotIn("Hidden", str(told))
        self.assertEqual(told["messages", "shared.team.Open"][2][0][1], {b"\\Seen", b"kw1"})

        client = run.session()
        client.select("shared.team.Open")
        client.store("3", "+FLAGS", "(\\Answered kw2)")
        # The owner's flags are his; messages come and go in the session.
        seen = run.original("Open", 1)
        seen.rename(seen.with_name(seen.name + "F"))
        run.deliver_to("Open", "new")
        run.original("Open", 2).unlink()
        client.noop()
        self.assertEqual(client.select("shared.team.Open"), ("OK", [b"4"]))
        lines = client.fetch("1:*", "(UID FLAGS)")[1]
        self.assertEqual([re.search(rb"UID (\d+)", line)[1] for line in lines], [b"1", b"3", b"4", b"5"])
        self.assertIn(b"(\\Seen kw1)", lines[0])
        # Removed for everybody.
        client.store("4", "+FLAGS", "(\\Deleted)")
        client.expunge()
        self.assertIsNone(run.original("Open", run.count))
        self.assertEqual(client.copy("1", "INBOX")[0], "OK")
        # Added for everybody, as the reader wants it.
        kind, data = client.append("shared.team.Open", "(\\Flagged)", None, b"Subject: added\r\n\r\nx\r\n")
        self.assertRegex(data[-1], rb"APPENDUID \d+ 6\]")
        run.count += 1
        self.assertEqual(client.copy("1", "shared.team.Open.Deep")[0], "OK")
        self.assertIn(b"(UID 6 FLAGS (\\Flagged", client.fetch("4", "(UID FLAGS)")[1][0])
        added = [path for path in (run.share / ".Open/cur").iterdir() if "Subject: added" in path.read_text()]
        self.assertEqual([path.name[-4:] for path in added], [":2,F"])
        self.assertEqual(len(list((run.share / ".Open.Deep/cur").iterdir())), 5)
        run.make_unwritable("Ro")
        self.assertEqual(client.append("shared.team.Ro", None, None, b"x")[0], "NO")
        self.assertEqual(client.copy("1", "shared.team.Ro")[0], "NO")
        self.assertEqual(client.create("shared.team.Mine")[0], "NO")
        self.assertEqual(client.select("shared.team.Hidden")[0], "NO")
        client.select("INBOX")
        self.assertEqual(client.delete("shared.team.Ro")[0], "OK")
        self.assertFalse((run.copies / "Ro").exists())
        self.assertEqual(len(list((run.share / ".Ro/cur").iterdir())), 4)
        client.logout()
        run.turn("courier")
        self.assertEqual(run.kinds("Open"), (4, 0))

        client = run.session()
        client.select("shared.team.Open")
        client.store("2", "+FLAGS", "(\\Deleted \\Seen)")
        client.expunge()
        self.assertIsNone(run.original("Open", 3))
        client.logout()
        run.deliver_to("Open")
        run.turn("cursus")
        client = run.session()
        client.select("INBOX")
        moved = client.uid("MOVE", "1", "shared.team.Open")
        self.assertEqual((moved[0], client.select("INBOX")[1]), ("OK", [b"0"]))
        client.logout()
        self.assertEqual(run.kinds("Open"), (0, 5))
        run.turn("courier")

        # Killed, it has not made the copies Courier's: `cursus handback` does.
        run.turn("cursus")
        told = run.told()
        run.cursus.kill()
        self.assertEqual(run.kinds("Open"), (0, 5))
        cursus = [*run.cursus.launcher, proc.BINARIES / "cursus", "--config", run.cursus.config]
        proc.run([*cursus, "handback", "courier"])
        self.assertEqual(run.kinds("Open"), (5, 0))
        run.start_old().close()
        run.who = "courier"
        run.compare(told, run.told())
        self.assertEqual(run.cursus.complaints(), [])

    def test_couriers_trash_and_outbox(self):
        """The same configuration files, trees and session: what is answered, sent and left."""
        if os.getuid() != 0:
            self.skipTest("peers take root")
        run = Extras()
        self.addCleanup(run.stop)
        run.make()

        def work(session):
            say = session.say
            say("SELECT INBOX")
            say("STORE 2 +FLAGS.SILENT (\\Deleted \\Flagged)")
            say("EXPUNGE")
            # What the session has copied is removed.
            say("COPY 1 INBOX.Kept")
            say("STORE 1 +FLAGS.SILENT (\\Deleted)")
            say("EXPUNGE")
            say("UID STORE 4,5 +FLAGS.SILENT (\\Deleted)")
            say("UID EXPUNGE 4")
            # Sent: with Bcc, by APPEND and COPY; refused by the program; several at once.
            say("APPEND INBOX.Outbox (\\Seen)", message("new", "Bcc: b@example.org\r\n"))
            say("APPEND INBOX.Outbox", message("refuse"))
            say("COPY 1 INBOX.Outbox")
            say("COPY 1:2 INBOX.Outbox")
            say("STATUS INBOX.Outbox (MESSAGES)")
            say("CLOSE")
            say("SELECT INBOX.Trash")
            say("FETCH 1:* (FLAGS)")
            say("STORE 1 +FLAGS.SILENT (\\Deleted)")
            say("EXPUNGE")
            for name in ("INBOX", "INBOX.Trash", "INBOX.Kept", "INBOX.Outbox"):
                say(f"STATUS {name} (MESSAGES UNSEEN)")

        for several in ("0", "1"):
            run.set("OUTBOX_MULTIPLE_SEND", several)
            told = {who: run.session(who, work) for who in ("courier", "cursus")}
            for what in ("answers", "sent", "tree", "real"):
                self.assertEqual(told["cursus"][what], told["courier"][what], f"{what}, {several}")
            # Neither counts Trash. Courier goes on counting what was refused.
            self.assertEqual(told["cursus"]["counted"], told["cursus"]["real"])
            self.assertEqual(len(told["courier"]["sent"]), 2 * (3 if several == "0" else 5))
        for by in ("courier", "cursus"):
            self.assertEqual(run.shown("cursus", by), run.shown("courier", by), f"left by {by}")
        self.assertEqual(run.cursus.complaints(), [])

    def test_dovecot(self):
        self.alternate("dovecot")

    def test_cyrus(self):
        if os.getuid() != 0:
            self.skipTest("peers take root")
        self.need("mbsync", "cyrmaster")
        run = CyrusAlternation(seed=3)
        self.addCleanup(run.stop)
        run.run(3, changes=10)
        self.assertGreater(len(run.journal), 40)
        self.assertEqual(run.cursus.complaints(), [])

    def test_killed_while_taking_over(self):
        """However often it is killed meanwhile: UIDs, UIDNEXT, keywords as Courier left them."""
        if os.getuid() != 0:
            self.skipTest("serves the tree of another user")
        rnd = random.Random(5)
        root = proc.new_dir("kill")
        maildir = root / "mail" / USER / "Maildir"
        for sub in ("cur", "new", "tmp", "courierimapkeywords"):
            (maildir / sub).mkdir(parents=True)
        bases = [f"{1700000000 + rnd.randrange(10**6)}.M{n}.h" for n in range(1500)]
        for base in bases:
            (maildir / "cur" / f"{base}:2,S").write_text(f"Subject: x\n\n{base}\n")
        rnd.shuffle(bases)
        wanted, lines, uid = {}, [], 0
        for base in bases:
            uid += rnd.randint(1, 3)
            wanted[uid] = (base, uid % 7 == 0)
            lines.append(f"{uid} {base}\n")
        (maildir / "courierimapuiddb").write_text(f"1 777 {uid + 50}\n" + "".join(lines))
        marked = "".join(f"{base}:0\n" for base, marked in wanted.values() if marked)
        (maildir / "courierimapkeywords" / ":list").write_text("$Label1\n\n" + marked)
        proc.run(["chown", "-R", f"{MAIL_UID}:{MAIL_UID}", root])
        server = Turn(f"{root}/mail/{{user}}/Maildir", "courier")
        self.addCleanup(lambda: server.alive() and server.stop())

        def select():
            try:
                client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30)
                client.login(USER, PASSWORD)
                client.select("INBOX", True)
                return client
            except (OSError, imaplib.IMAP4.error):
                return None  # It was killed.

        for _ in range(6):
            server.start()
            session = threading.Thread(target=select)
            session.start()
            time.sleep(rnd.uniform(0.02, 0.6))
            server.kill()
            session.join()
        server.start()
        client = select()
        self.assertEqual(client.response("UIDVALIDITY")[1], [b"777"])
        self.assertEqual(client.response("UIDNEXT")[1], [b"%d" % (uid + 50)])
        have = {}
        for part in client.fetch("1:*", "(UID FLAGS BODY.PEEK[TEXT])")[1]:
            if isinstance(part, tuple):
                number = int(re.search(rb"UID (\d+)", part[0]).group(1))
                have[number] = (part[1].strip().decode(), b"$Label1" in part[0])
        self.assertEqual(have, wanted)
        client.logout()
