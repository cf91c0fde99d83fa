"""A user's `maildirsize` under Cursus, deliverquota and maildrop at once: sums agree after every step."""

import imaplib
import os
import pathlib
import random
import re
import shutil
import threading
import time

from harness import proc
from harness.alternation import MAIL_UID, PASSWORD, USER, Turn
from harness.case import Case


def stored(path):
    """What agents count for a file."""
    named = re.search(r",S=(\d+)", path.name)
    return int(named.group(1)) if named else path.stat().st_size


class Maildirsize(Case):
    def setUp(self):
        if os.getuid() != 0:
            self.skipTest("serves the tree of another user")
        self.need("maildrop")
        self.deliverquota = shutil.which("deliverquota") or shutil.which("deliverquota.maildrop")
        self.assertIsNotNone(self.deliverquota, "maildrop's deliverquota")
        root = proc.new_dir("quota")
        self.maildir = root / "mail" / USER / "Maildir"
        for folder in ("", ".Work", ".Trash"):
            for sub in ("cur", "new", "tmp"):
                (self.maildir / folder / sub).mkdir(parents=True)
            if folder:
                (self.maildir / folder / "maildirfolder").touch()
        (self.maildir / "maildirsize").write_text("200000S,40C\n           0            0\n")
        self.own(root)
        self.server = Turn(f"{root}/mail/{{user}}/Maildir", "courier")
        self.addCleanup(lambda: self.server.alive() and self.server.stop())
        self.server.start()
        self.client = self.login()

    def own(self, path):
        proc.run(["chown", "-R", f"{MAIL_UID}:{MAIL_UID}", path])

    def login(self):
        client = imaplib.IMAP4("127.0.0.1", self.server.ports["imap"], timeout=30)
        client.login(USER, PASSWORD)
        return client

    def as_mail(self, *command, text=b"", may_fail=False):
        done = proc.subprocess.run(
            ["setpriv", f"--reuid={MAIL_UID}", f"--regid={MAIL_UID}", "--clear-groups", *map(str, command)],
            input=text, capture_output=True, timeout=30)
        if done.returncode and not may_fail:
            raise AssertionError(f"{command}: {done.returncode} {done.stderr}")
        return done.returncode

    def counted(self):
        """The sum by the files."""
        size = count = 0
        for path in self.maildir.glob("**/*"):
            if not path.is_file() or path.parent.name not in ("cur", "new"):
                continue
            flags = path.name.rpartition(":2,")[2] if ":2," in path.name else ""
            if path.parent.parent.name.endswith(".Trash") or "T" in flags:
                continue
            size, count = size + stored(path), count + 1
        return size, count

    def told(self):
        """The sum by the file, and its first line."""
        lines = (self.maildir / "maildirsize").read_text().splitlines()
        numbers = [tuple(map(int, line.split())) for line in lines[1:]]
        return lines[0], (sum(n[0] for n in numbers), sum(n[1] for n in numbers))

    def agree(self, step):
        """Names follow flags in a moment, and files go with a checkpoint."""
        until = time.monotonic() + 12
        while (self.told()[1] != self.counted()) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(self.told()[1], self.counted(), step)

    def quota(self):
        data = self.client.getquotaroot("INBOX")[1]
        found = re.search(rb"STORAGE (\d+) (\d+)", data[1][0])
        messages = re.search(rb"MESSAGE (\d+) (\d+)", data[1][0])
        return [tuple(map(int, m.groups())) for m in (found, messages)]

    def message(self, n):
        return b"From: a@example.org\r\nSubject: %d\r\n\r\n" % n + b"text\r\n" * (n % 50 + 1)

    def test_interleaved(self):
        rnd, client, lines = random.Random(4), self.client, 0
        for n in range(40):
            what = rnd.choice(["append", "append", "deliverquota", "maildrop", "folder", "deleted",
                               "undeleted", "expunge", "copy", "move", "trash"])
            client.select("INBOX")
            have = client.search(None, "ALL")[1][0].split()
            one = rnd.choice(have).decode() if have else None
            if what == "append":
                self.assertEqual(client.append("INBOX", None, None, self.message(n))[0], "OK")
            elif what in ("deliverquota", "folder"):
                to = self.maildir / (".Work" if what == "folder" else "")
                self.as_mail(self.deliverquota, to, text=self.message(n).replace(b"\r", b""))
            elif what == "maildrop":
                recipe = self.maildir.parent / "filter"
                recipe.write_text(f'to "{self.maildir}"\n')
                recipe.chmod(0o600)
                self.own(recipe)
                self.as_mail("env", f"HOME={self.maildir.parent}", "maildrop", recipe,
                             text=self.message(n).replace(b"\r", b""))
            elif one and what in ("deleted", "undeleted"):
                client.store(one, "+FLAGS" if what == "deleted" else "-FLAGS", "(\\Deleted)")
            elif what == "expunge":
                client.expunge()
            elif one and what in ("copy", "move", "trash"):
                to = "Trash" if what == "trash" else "Work"
                client._simple_command("MOVE" if what == "move" else "COPY", one, to)
            self.agree(f"{n}: {what}")
            lines = max(lines, len((self.maildir / "maildirsize").read_text().splitlines()))
            messages = self.quota()[1]
            self.assertGreaterEqual(messages[0], self.counted()[1], f"{n}: {what}")
        self.assertEqual(self.told()[0], "200000S,40C")
        # It was not always calculated anew.
        self.assertGreater(lines, 12)

    def test_at_once(self):
        """Both write at the same time, and the file is calculated anew in between."""
        def deliver():
            for n in range(60):
                self.as_mail(self.deliverquota, self.maildir, text=self.message(n).replace(b"\r", b""),
                             may_fail=True)
        (self.maildir / "maildirsize").write_text("90000000S,9000C\n" + "           0            0\n" * 190)
        other = threading.Thread(target=deliver)
        other.start()
        for n in range(150):
            self.assertEqual(self.client.append("Work", None, None, self.message(n))[0], "OK")
        other.join()
        self.quota()
        self.agree("after both")
        self.assertLess((self.maildir / "maildirsize").stat().st_size, 5120)
        self.assertEqual(self.quota()[1], (210, 9000))

    def test_limits(self):
        """Deliveries of others count at once; a definition of others is the limit; ours is told."""
        self.assertEqual(self.quota(), [(0, 195), (0, 40)])
        for n in range(39):
            self.as_mail(self.deliverquota, self.maildir / ".Work", text=b"Subject: x\n\ny\n")
        # Nobody has opened Work.
        self.assertEqual(self.quota()[1], (39, 40))
        self.assertEqual(self.client.append("INBOX", None, None, self.message(1))[0], "OK")
        kind, data = self.client.append("INBOX", None, None, self.message(1))
        self.assertEqual(kind, "NO")
        self.assertIn(b"OVERQUOTA", data[0])
        self.assertEqual(self.as_mail(self.deliverquota, self.maildir, text=b"Subject: x\n\ny\n",
                                      may_fail=True), 77)
        # The administrator's new definition, as maildirmake -q writes it.
        self.as_mail("maildirmake.maildrop", "-q", "500000S,50C", self.maildir)
        self.assertEqual(self.quota()[1], (40, 50))
        self.assertEqual(self.client.append("INBOX", None, None, self.message(1))[0], "OK")
        self.agree("a new definition")
        # Set here, it is in the file, and stays when somebody writes another.
        self.server.tool("quota", "set", USER, "--storage", "1000000", "--messages", "45")
        self.assertEqual(self.told()[0], "1000000S,45C")
        self.agree("a limit of ours")
        self.as_mail("maildirmake.maildrop", "-q", "500000S,50C", self.maildir)
        self.assertEqual(self.quota()[1], (41, 45))
        self.assertEqual(self.told()[0], "1000000S,45C")
        self.client.logout()
        self.server.stop()
        self.as_mail(self.deliverquota, self.maildir, text=b"Subject: x\n\ny\n")
        self.server.start()
        self.client = self.login()
        self.assertEqual(self.quota()[1], (42, 45))
        self.server.kill()
        # What a crash kept from the file is counted at the next use.
        with open(self.maildir / "maildirsize", "a") as out:
            out.write("        -700           -3\n")
        self.server.start()
        self.client = self.login()
        self.quota()
        self.agree("after a kill")
