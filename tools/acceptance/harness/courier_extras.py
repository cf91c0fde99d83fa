"""Courier's Trash and Outbox, served by Courier and by Cursus from the same configuration files.

Both get equal trees, one after the other at the same path, and the same session. What the session was
answered, what the program that sends was given, what lies in the tree afterwards and what `maildirsize`
has of it must be alike; then each has to show what the other left.
"""

import os
import pathlib
import re
import shutil
import socket

from . import proc
from .alternation import MAIL_UID, PASSWORD, USER, Alternation, Turn

SENDMAIL = """#!/bin/sh
# Keeps what it is given, in order; refuses what says so.
cd {sent}
n=$(ls | wc -l)
printf '%s\\n' "$@" > $(printf %03d $n).args
cat > $(printf %03d $((n + 1))).message
grep -q '^Subject: refuse' *$(printf %03d $((n + 1))).message && exit 75
exit 0
"""


def message(subject, head="", lines=3):
    text = f"From: user1@example.org\r\nTo: a@example.org\r\n{head}Subject: {subject}\r\n\r\n"
    return (text + f"line of {subject}\r\n" * lines).encode()


class Session:
    """Commands and their answers, without what servers word as they like."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self.told = []
        self.say(f"LOGIN {USER} {PASSWORD}", quiet=True)

    def say(self, command, literal=None, quiet=False):
        if literal is not None:
            self.socket.sendall(f"a {command} {{{len(literal)}}}\r\n".encode())
            line = self.file.readline()
            if not line.startswith(b"+"):
                self.told.append((command, line.decode().split()[1], []))
                return
            self.socket.sendall(literal + b"\r\n")
        else:
            self.socket.sendall(f"a {command}\r\n".encode())
        untagged = []
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError(f"{command}: the connection was closed")
            if line.startswith(b"a "):
                break
            untagged.append(line.decode().strip())
        if quiet:
            return
        # Courier tells EXISTS once more beside EXPUNGE.
        if any(line.endswith(" EXPUNGE") for line in untagged):
            untagged = [line for line in untagged if not line.endswith((" EXISTS", " RECENT"))]
        untagged = [line for line in untagged if line.endswith(" EXPUNGE") or " FETCH " in line or " STATUS " in line]
        code = re.search(rb"\[(APPENDUID|COPYUID|TRYCREATE)[^\]]*\]", line)
        # UIDs here tell of what was refused before: Cursus does not give one again.
        code = code[1].decode() if code else ""
        untagged = [line.replace('"', "") for line in untagged]
        self.told.append((command, line.split()[1].decode(), code, untagged))

    def close(self):
        self.say("LOGOUT", quiet=True)
        self.file.close()
        self.socket.close()


class ByCouriersFiles(Turn):
    """cursusd with the configuration of the Courier beside it, but for its ports and accounts."""

    def __init__(self, maildir, etc):
        super().__init__(maildir, "courier")
        self.etc = etc
        text = self.config.read_text().replace('protocol = "imap"\n', 'protocol = "imap"\nnames = "courier"\n')
        self.config.write_text(text + '[auth]\nbackends = ["users"]\n')

    def start(self):
        argv = [*self.launcher, proc.BINARIES / "cursusd", "--config", self.config, "--courier", self.etc]
        self.child = proc.Child(argv, self.log_path)
        self.wait_ready()
        return self


class Extras(Alternation):
    def __init__(self):
        super().__init__("courier")
        self.sent = proc.new_dir("sent")

    def make(self):
        """An account with a quota, messages and the mailboxes that clients make."""
        self.start_old().close()
        self.peer.stop()
        self.mail = self.peer.dir / "mail"
        self.etc = self.peer.dir / "etc" / "courier"
        os.chmod(self.sent, 0o777)
        program = proc.new_dir("program") / "sendmail"
        program.write_text(SENDMAIL.format(sent=self.sent))
        program.chmod(0o755)
        os.chmod(program.parent, 0o755)
        self.set("IMAP_MOVE_EXPUNGE_TO_TRASH", "1")
        self.set("OUTBOX", ".Outbox")
        self.set("SENDMAIL", str(program))
        self.set("HEADERFROM", "X-IMAP-Sender")
        main = pathlib.Path(self.main_dir())
        for folder in ("Kept", "Outbox"):
            self.tool("maildirmake.courier", "-f", folder, main)
        for n in range(1, 8):
            path = main / "cur" / f"170000000{n}.M{n}P1.h:2,{'S' if n % 2 else ''}"
            path.write_bytes(message(f"first {n}", lines=n).replace(b"\r\n", b"\n"))
            os.chown(path, MAIL_UID, MAIL_UID)
        self.tool("maildirmake.courier", "-q", "20000000S,2000C", main)
        self.base = self.peer.dir / "base"
        proc.run(["cp", "-a", self.mail, self.base])

    def set(self, name, value):
        """A setting of Courier's imapd file."""
        file = self.etc / "imapd"
        lines = [line for line in file.read_text().splitlines() if not line.startswith(name + "=")]
        file.write_text("\n".join([*lines, f"{name}={value}", ""]))

    def put(self, tree):
        """Has a copy of a tree where both servers look for it."""
        shutil.rmtree(self.mail)
        proc.run(["cp", "-a", tree, self.mail])

    def served(self, who, work):
        """What `work` says of a port at which this server serves the tree."""
        if who == "courier":
            self.peer.start()
            try:
                return work(self.peer.ports["imap"])
            finally:
                self.peer.stop()
        self.cursus = ByCouriersFiles(self.maildir, self.etc)
        self.cursus.start()
        try:
            return work(self.cursus.ports["imap"])
        finally:
            self.cursus.stop()

    def lie(self):
        """What lies in the tree: for each folder, flags and contents of messages."""
        main, out = pathlib.Path(self.main_dir()), {}
        for cur in sorted(main.glob("**/cur")):
            files = [path for sub in ("cur", "new") for path in (cur.parent / sub).iterdir()]
            out[str(cur.parent.relative_to(main))] = sorted(
                (path.read_bytes().replace(b"\r\n", b"\n"), "".join(sorted(path.name.partition(":2,")[2]))) for path in files)
        return out

    def given(self):
        """What the program got since the last call: arguments, and the message."""
        files = sorted(self.sent.iterdir())
        told = [path.read_bytes() for path in files]
        for path in files:
            path.unlink()
        return told

    def session(self, who, work):
        """The session on an equal tree: answers, what was sent, what lies there, the sums."""
        self.put(self.base)

        def talk(port):
            session = Session(port)
            work(session)
            session.close()
            return session.told

        told = self.served(who, talk)
        _, counted, real = self.sums()
        left = self.peer.dir / f"left-by-{who}"
        shutil.rmtree(left, ignore_errors=True)
        proc.run(["cp", "-a", self.mail, left])
        return {"answers": told, "sent": self.given(), "tree": self.lie(), "counted": counted, "real": real}

    @staticmethod
    def unordered(line):
        """A FETCH without \\Recent; flags and items in any order."""
        flags = re.search(r"FLAGS \(([^)]*)\)", line)
        words = sorted(set(flags[1].split()) - {"\\Recent"}) if flags else []
        return sorted(re.findall(r"(?:UID|SIZE|MESSAGES|UNSEEN) \d+", line)) + words

    def shown(self, who, by):
        """What a server shows of the tree that another left."""
        self.put(self.peer.dir / f"left-by-{by}")

        def look(port):
            session = Session(port)
            for name in ("INBOX", "INBOX.Trash", "INBOX.Kept", "INBOX.Outbox"):
                session.say(f"STATUS {name} (MESSAGES UNSEEN)")
                session.say(f"EXAMINE {name}")
                session.say("UID FETCH 1:* (UID FLAGS RFC822.SIZE)")
            session.close()
            return [(command, kind, code, [self.unordered(line) for line in untagged])
                    for command, kind, code, untagged in session.told]

        return self.served(who, look)
