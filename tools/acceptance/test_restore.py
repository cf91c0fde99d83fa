"""Archive, backup and restore with the real programs: what comes back is what IMAP showed then."""

import datetime
import json
import pathlib
import re
import shlex
import signal
import threading
import time

from harness import corpus, proc, server
from harness.case import both_layouts
from harness.server import PASSWORD

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOAD_SECONDS = 1.0


def shown(one, user="alice"):
    """Everything that IMAP shows of a user: folder -> {uid: (flags, body)}."""
    out = {}
    with one.imap(user) as imap:
        names = [re.search(rb'"/" "?([^"\r\n]+)"?', line).group(1).decode()
                 for line in imap.ok(b'LIST "" "*"')
                 if line.startswith(b"* LIST") and not re.search(rb"\\No(select|nExistent)", line)]
        for name in names:
            imap.ok(b'EXAMINE "%s"' % name.encode())
            flags = {}
            for line in imap.ok(b"UID FETCH 1:* (UID FLAGS)"):
                uid = re.search(rb"UID (\d+)", line)
                what = re.search(rb"FLAGS \(([^)]*)\)", line)
                if uid and what:
                    words = {w for w in what.group(1).split() if w != b"\\Recent"}
                    flags[int(uid.group(1))] = frozenset(words)
            bodies = imap.bodies()
            out[name] = {uid: (flags[uid], bytes(bodies[uid])) for uid in flags}
    return out


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


@both_layouts(globals())
class Restore:
    seconds = 240

    def archived(self, extra="", more=""):
        """A server with an archive beside it."""
        directory = proc.new_dir(f"restore-{self.layout[:2]}")
        (directory / "archive").mkdir()
        extra += f'[archive]\ndirectory = "{directory}/archive"\n{more}'
        return self.serve(users=("alice",), directory=directory, extra=extra)

    def load(self, one, until, mark):
        """LMTP and IMAP at once until told to stop."""
        def deliver():
            n = 0
            with one.lmtp() as lmtp:
                while not until.is_set():
                    n += 1
                    lmtp.deliver([one.address("alice")], corpus.plain(f"{mark} lmtp {n}".encode()))

        def work():
            n = 0
            with one.imap() as imap:
                imap.select("Work")
                while not until.is_set():
                    n += 1
                    imap.append("Work", corpus.plain(f"{mark} imap {n}".encode()), b"\\Flagged")
                    imap.ok(b"NOOP")
                    imap.ok(b"STORE * +FLAGS (\\Seen word%d)" % (n % 5))
                    if n % 7 == 0:
                        imap.ok(b"STORE 1 +FLAGS (\\Deleted)")
                        imap.ok(b"EXPUNGE")

        threads = [threading.Thread(target=t) for t in (deliver, work)]
        for thread in threads:
            thread.start()
        return threads

    def busy(self, one, seconds, mark, during=None):
        until = threading.Event()
        threads = self.load(one, until, mark)
        time.sleep(seconds / 2)
        try:
            if during:
                during()
            time.sleep(seconds / 2)
        finally:
            until.set()
            for thread in threads:
                thread.join(30)

    def test_a_moment_comes_back(self):
        one = self.archived("[store]\nlog_bytes_max = 16777216\n"
                            "checkpoint_seconds = 1\n", "segment_seconds_max = 1\n")
        archive, backup = one.dir / "archive", one.dir / "backup"
        with one.imap() as imap:
            imap.ok(b"CREATE Work")
            imap.ok(b"CREATE Work/Old")
            imap.ok(b"SUBSCRIBE Work")
        made = {}
        self.busy(one, LOAD_SECONDS, "first", lambda: made.update(json.loads(
            one.tool("--json", "backup", "--to", backup).stdout)))
        self.assertEqual(made["findings"], [])
        self.assertGreater(made["messages"], 0)
        self.busy(one, LOAD_SECONDS, "second")
        noted = self.annotated(one)
        time.sleep(0.05)
        world, moment = shown(one), now()
        time.sleep(0.05)
        victim = sorted(world["Work"])[0]
        with one.imap() as imap:
            imap.select("Work")
            imap.ok(b"UID STORE %d +FLAGS (\\Deleted)" % victim)
            imap.ok(b"EXPUNGE")
            imap.ok(b"CLOSE")
            imap.ok(b"DELETE Work/Old")
            imap.ok(b"RENAME Work Done")
        self.busy_inbox(one)
        one.child.signal(signal.SIGKILL)
        one.child.wait(10)
        one.tool("recover", seconds=60)
        one.tool("archive", "verify", seconds=60)
        self.whole(one, backup, archive, moment, world)
        self.parts(one, backup, moment, world, victim, noted)

    def annotated(self, one):
        """Annotates the last message of Work; returns what FETCH shows of it."""
        with one.imap() as imap:
            imap.select("Work")
            imap.ok(b'STORE * ANNOTATION (/comment (value.priv "mine" value.shared "a \\"b\\""))')
            imap.ok(b'STORE * ANNOTATION (/altsubject (value.shared {3+}\r\nx\r\n))')
        return self.annotations(one, b"Work")

    def annotations(self, one, folder):
        with one.imap() as imap:
            imap.ok(b'EXAMINE "%s"' % folder)
            lines = b"".join(imap.ok(b'FETCH * (ANNOTATION (/* (value.priv value.shared)))'))
        found = lines.partition(b"ANNOTATION")[2].rpartition(b"))")[0]
        self.assertIn(b"mine", found)
        return found

    def busy_inbox(self, one):
        with one.lmtp() as lmtp:
            for n in range(20):
                lmtp.deliver([one.address("alice")], corpus.plain(b"third %d" % n))

    def whole(self, one, backup, archive, moment, world):
        place = one.dir / "restored"
        one.tool("restore", "--from", backup, "--archive", archive, "--as-of", moment,
                 "--into-state", place, seconds=120)
        self.assertIn("state_dir", (place / "restored.toml").read_text())
        (one.dir / "back").mkdir()
        back = server.make(self.layout, users=("alice",), directory=one.dir / "back")
        back.added = True  # the accounts come with the backup
        text = back.config_text().replace(str(back.state), str(place / "state"))
        back.config.write_text(text.replace(str(back.spool), str(place / "mail/default")))
        # As a context it is started.
        with back:
            is_now = shown(back)
        self.assertEqual({n: sorted(f) for n, f in is_now.items()},
                         {n: sorted(f) for n, f in world.items()})
        self.assertEqual(is_now, world)

    def parts(self, one, backup, moment, world, victim, noted):
        """A folder beside the live mail, and a message in place, by the running server."""
        one.start()
        said = one.tool("restore", "--from", backup, "--as-of", moment, "--user", "alice",
                        "--mailbox", "Work", "--into-namespace", "Back", seconds=120).stdout
        self.assertIn(b"messages", said)
        live = shown(one)
        bodies = lambda folder: sorted((sorted(f), b) for f, b in folder.values())
        self.assertEqual(bodies(live["Back/Work"]), bodies(world["Work"]))
        self.assertEqual(self.annotations(one, b"Back/Work"), noted)
        arguments = ("restore", "--from", backup, "--as-of", moment, "--user", "alice",
                     "--mailbox", "Work", "--uid", str(victim), "--in-place")
        dry = one.tool(*arguments, "--dry-run", seconds=120).stdout
        self.assertIn(b"would restore", dry)
        self.assertNotIn("Work", shown(one))
        one.tool(*arguments, seconds=120)
        self.assertEqual(bodies(shown(one)["Work"]), bodies({0: world["Work"][victim]}))
        again = one.tool(*arguments, seconds=120).stdout
        self.assertIn(b"0 messages, 1 were there", again)

    def test_the_operators_guide(self):
        """Every command of docs/backup.md is one; those without a restore are run."""
        one = self.archived()
        guide = (ROOT / "docs/backup.md").read_text()
        blocks = "\n".join(re.findall(r"```sh\n(.*?)```", guide, re.S)).replace("\\\n", " ")
        commands = [shlex.split(line, comments=True) for line in blocks.splitlines()
                    if line.startswith("cursus ")]
        self.assertGreater(len(commands), 8)
        one.deliver(corpus.plain(b"one"))
        one.tool("archive", "take")
        replaced = {"/mnt/backup/cursus": str(one.dir / "backup"),
                    "/etc/cursus/cursus.toml": str(one.config)}
        ran = 0
        for words in commands:
            words = [replaced.get(word, word) for word in words[1:] if word != "--config"]
            words = [word for word in words if word != str(one.config)]
            if "restore" in words:
                continue
            one.tool(*words, seconds=60)
            ran += 1
        self.assertGreaterEqual(ran, 5)
        status = json.loads(one.tool("--json", "archive", "status").stdout)
        self.assertIsNone(status["alarm"])
        self.assertGreater(status["messages"], 0)
