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
from harness.cyrus_alternation import CyrusAlternation
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
