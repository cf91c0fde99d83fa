"""Other programs write the same Maildir while clients are connected."""

import os
import re
import threading
import time

from harness import corpus, proc
from harness.case import Case
from harness.server import DOMAIN
from test_clients import fetched_flags, flags_of
import test_clients

DELIVERIES = 25
WRITERS = ("maildrop", "procmail", "safecat")
# Above what a first SELECT reads before it answers.
MESSAGES = 1000


class Watcher:
    """A session in IDLE that notes when it was told of how many messages."""

    def __init__(self, one):
        self.client = one.imap(seconds=15)
        self.exists = self.client.select()["exists"]
        self.told = []
        self.client.send(b"i1 IDLE\r\n")
        assert self.client.line().startswith(b"+")

    def wait_exists(self, count, seconds):
        """Seconds until EXISTS reached `count`; None when it did not in time."""
        began = time.monotonic()
        self.client.socket.settimeout(seconds)
        while self.exists < count:
            try:
                line = self.client.line()
            except TimeoutError:
                return None
            self.told.append(line)
            if found := re.match(rb"\* (\d+) EXISTS", line):
                self.exists = int(found[1])
            elif re.match(rb"\* \d+ EXPUNGE", line):
                self.exists -= 1
        return time.monotonic() - began

    def done(self):
        self.client.socket.settimeout(15)
        self.client.send(b"DONE\r\n")
        self.client.until(b"i1")
        return self.client


class ForeignWriters(Case):
    layout = "maildir"

    def setUp(self):
        super().setUp()
        self.one = self.serve()
        # The first delivery makes the Maildir.
        self.one.deliver(corpus.plain("first"))
        self.inbox = self.one.maildir()
        stat = self.inbox.stat()
        self.owner = (stat.st_uid, stat.st_gid)

    def writer(self, name):
        """A function that delivers one message by the program called `name`."""
        program = self.need(name)
        home = proc.new_dir(name[:4])
        os.chown(home, *self.owner)
        if name == "maildrop":
            rc = home / "filter"
            rc.write_text(f'to "{self.inbox}"\n')
            argv = [program, rc]
        elif name == "procmail":
            rc = home / "rc"
            rc.write_text(f"MAILDIR={home}\nDEFAULT={self.inbox}/\nLOGFILE={home}/log\n")
            argv = [program, "-m", rc]
        else:
            argv = [program, self.inbox / "tmp", self.inbox / "new"]
        for path in home.iterdir():
            path.chmod(0o600)
            os.chown(path, *self.owner)
        environment = {"HOME": str(home), "LOGNAME": "root", "HOST": "localhost"}

        def deliver(message):
            # mbox and Maildir writers get LF line ends, as from a local MTA.
            proc.run(argv, stdin=message.replace(b"\r\n", b"\n"), env=environment, seconds=20, owner=self.owner)

        return deliver

    def check_writer(self, name):
        deliver = self.writer(name)
        watcher = Watcher(self.one)
        base = watcher.exists
        messages = [corpus.plain(f"{name} {n}", b"line\r\n" * (n + 1)) for n in range(DELIVERIES)]
        slowest = 0
        for number, message in enumerate(messages, 1):
            deliver(message)
            took = watcher.wait_exists(base + number, 5)
            self.assertIsNotNone(took, f"IDLE was not told of delivery {number}")
            slowest = max(slowest, took)
        print(f"  slowest notice {slowest * 1000:.0f} ms")
        self.assertLess(slowest, 1.0)
        client = watcher.done()
        uids = [uid for uid in client.uid_search()]
        self.assertEqual(len(uids), base + DELIVERIES)
        got = sorted(b for b in client.bodies().values() if name.encode() + b" " in b)
        self.assertEqual(got, sorted(messages))

    def test_maildrop(self):
        self.check_writer("maildrop")

    def test_procmail(self):
        self.check_writer("procmail")

    def test_safecat(self):
        self.check_writer("safecat")

    def test_all_writers_at_once_lose_and_double_nothing(self):
        """Foreign deliveries, LMTP deliveries, APPENDs and expunges on one Maildir."""
        writers = [self.writer(name) for name in WRITERS]
        watcher = Watcher(self.one)
        base = watcher.exists
        want, errors = [], []

        def work(name, deliver):
            try:
                for number in range(DELIVERIES):
                    message = corpus.plain(f"{name} {number}")
                    want.append(message)
                    deliver(message)
            except Exception as error:  # noqa: BLE001 - told to the test below
                errors.append(f"{name}: {error!r}")

        appender = self.one.imap()
        ways = [*zip(WRITERS, writers), ("lmtp", self.one.deliver),
                ("append", lambda m: appender.append("INBOX", m))]
        threads = [threading.Thread(target=work, args=way) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(errors, [])
        total = len(ways) * DELIVERIES
        self.assertIsNotNone(watcher.wait_exists(base + total, 5),
                             f"{watcher.exists} of {base + total} seen")
        client = watcher.done()
        bodies = client.bodies()
        self.assertEqual(len(bodies), base + total)

        def bare(message):
            return re.sub(rb"^(?:(?:Return-Path|Delivered-To|Received):[^\r]*\r\n(?:[ \t][^\r]*\r\n)*)*",
                          b"", message)

        got = sorted(bare(m) for m in bodies.values() if b"Subject: first" not in m)
        self.assertEqual(got, sorted(want))
        # A session that comes now sees the same UIDs for the same messages.
        with self.one.imap() as fresh:
            fresh.select()
            self.assertEqual(fresh.bodies(), bodies)

    def test_flags_renames_and_removals_by_others_show_up(self):
        self.one.fill(corpus.varied(6))
        with self.one.imap() as client:
            client.select()
            before = fetched_flags(client)
            names = sorted(p for part in ("cur", "new") for p in (self.inbox / part).iterdir())
            by_subject = {re.search(r"Subject: ([^\r\n]*)", p.read_text())[1]: p for p in names}
            uid_of = {re.search(rb"Subject: ([^\r]*)", body)[1].decode(): uid
                      for uid, body in client.bodies().items()}

            def rename(subject, flags):
                path = by_subject[subject]
                base = path.name.partition(":2,")[0]
                path.rename(self.inbox / "cur" / f"{base}:2,{flags}")

            rename("varied 1", "F")
            rename("varied 2", "RS")
            by_subject["varied 3"].unlink()
            want = dict(before)
            want[uid_of["varied 1"]] = frozenset({rb"\Flagged"})
            want[uid_of["varied 2"]] = frozenset({rb"\Answered", rb"\Seen"})
            del want[uid_of["varied 3"]]

            def same():
                client.ok("NOOP")
                return fetched_flags(client) == want

            try:
                proc.wait_until(same, 10, "the changes", step=0.2)
            except TimeoutError:
                self.assertEqual(fetched_flags(client), want)
        with self.one.imap() as fresh:
            self.assertEqual(flags_of(fresh), want)

    def test_mutt_on_the_files_and_imap_agree(self):
        """A second mail program opens the directory itself, flags and deletes there."""
        self.one.fill(corpus.varied(5))
        with self.one.imap() as client:
            client.select()
            uid_of = {re.search(rb"Subject: ([^\r]*)", body)[1].decode(): uid
                      for uid, body in client.bodies().items()}
            home = proc.new_dir("mutt")
            (home / "rc").write_text(
                f'set folder = "{home}"\nset spoolfile = "{self.inbox}"\nset mbox_type = Maildir\nset quit = yes\n'
                "set delete = yes\nset move = no\nset mark_old = no\nset wait_key = no\n"
                "set maildir_trash = no\nset sort = mailbox-order\n"
                "push \"<search>~s 'varied 2'<enter><set-flag>!"
                "<delete-pattern>~s 'varied 4'<enter><sync-mailbox><quit>\"\n")
            program = proc.find_program("neomutt") or self.need("mutt")
            terminal = test_clients.Terminal(
                [program, "-n", "-F", str(home / "rc")],
                {"TERM": "xterm", "HOME": str(home)}, home / "screen")
            self.assertEqual(terminal.finish(30), 0)

            def same():
                client.ok("NOOP")
                flags = fetched_flags(client)
                return (uid_of["varied 4"] not in flags
                        and rb"\Flagged" in flags[uid_of["varied 2"]])

            proc.wait_until(same, 10, "mutt's changes", step=0.2)
            self.assertEqual(len(fetched_flags(client)), len(uid_of) - 1)

    def test_flags_set_by_imap_are_in_file_names(self):
        self.one.fill(corpus.varied(3))
        with self.one.imap() as client:
            client.select()
            client.ok(r"UID STORE 1:* +FLAGS (\Seen \Flagged)")
            client.ok(r"UID STORE 2 +FLAGS (\Deleted)")
            client.ok("UID EXPUNGE 2")

            def renamed():
                names = [p.name for p in (self.inbox / "cur").iterdir()]
                # Without a journal a file has both names for a moment.
                return (not list((self.inbox / "new").iterdir()) and len(names) == 3
                        and all(n.partition(":2,")[2][:2] == "FS" for n in names))

            proc.wait_until(renamed, 10, "the files' new names")


class FirstSelect(Case):
    """A Maildir of many messages that no server had yet: numbers and flags are told before these are read."""

    layout = "maildir"

    def test_mbsync_gets_every_message_with_its_flags(self):
        one = self.serve()
        inbox = one.spool / "alice"
        for sub in ("cur", "new", "tmp"):
            (inbox / sub).mkdir(parents=True)
        flags = {}
        for number in range(MESSAGES):
            letters = ("", "S", "FS", "RS", "DF")[number % 5]
            message = corpus.plain(f"planted {number}").replace(b"\r\n", b"\n")
            (inbox / "cur" / f"{1600000000 + number}.M{number}.host:2,{letters}").write_bytes(message)
            flags[f"planted {number}"] = set(letters)
        home = proc.new_dir("first")
        mbsync = test_clients.Mbsync
        path = mbsync.config(self, one, home)
        mbsync.sync(self, path)
        self.assertEqual(mbsync.local(self, home, "INBOX"), flags)
        (far, near), text = mbsync.sync(self, path)
        self.assertEqual((far, near), ((0, 0, 0), (0, 0, 0)), text[-2000:])
