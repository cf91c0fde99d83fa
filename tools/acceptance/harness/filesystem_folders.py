"""Courier's shared folders on the filesystem, served by Courier and by Cursus in turn.

`Share` is a sharable Maildir of user1's that no index names; user2 has it as `team` in his
`shared-maildirs`. He reads copies of its folders, with flags of his own.
"""

import os
import re
import socket

from .alternation import MAIL_UID
from .peers import PASSWORD
from .sharing_turns import CouriersNames, SharingTurns, flags_of, selected

READER = "user2"
PATTERNS = ["*", "%", "INBOX*", "shared", "shared.*", "shared.%", "shared.team.%", "shared.team.Open*", "s*"]
FOLDERS = ["shared.team.Open", "shared.team.Open.Deep", "shared.team.Ro"]


class FilesystemFolders(SharingTurns):
    users = ["user1", READER]
    patterns = PATTERNS

    def __init__(self, seed=1):
        super().__init__(seed)
        self.count = 0

    # -- the tree --------------------------------------------------------------

    def make(self):
        self.start_old().close()
        mail = self.peer.dir / "mail"
        self.share = mail / "user1" / "Share"
        self.reader = mail / READER / "Maildir"
        self.copies = self.reader / "shared-folders" / "team"
        self.tool("maildirmake.courier", "-S", self.share)
        for mode, folder in [("write", "Open"), ("write", "Open.Deep"), ("read", "Ro")]:
            self.tool("maildirmake.courier", "-s", mode, "-f", folder, self.share)
            for _ in range(4):
                self.deliver_to(folder)
        # A folder that the reader may not look into.
        self.tool("maildirmake.courier", "-f", "Hidden", self.share)
        for path in [self.share / ".Hidden", *(self.share / ".Hidden").iterdir()]:
            os.chown(path, 0, 0)
        self.tool("maildirmake.courier", "--add", f"team={self.share}", self.reader)
        self.cursus = CouriersNames(self.maildir, self.users, "courier_maildirs = true\n[imap]\nsmap = true")

    def deliver_to(self, folder, sub="cur"):
        self.count += 1
        name = f"17000000{self.count:02}.M{self.count}.h" + (":2,S" if sub == "cur" else "")
        path = self.share / f".{folder}" / sub / name
        path.write_text(f"From: a@b\nSubject: {folder} {self.count}\n\nbody {self.count}\n")
        os.chown(path, MAIL_UID, MAIL_UID)
        return path

    def make_unwritable(self, folder):
        """Has a folder belong to somebody else, who lets others read."""
        for path in [self.share / f".{folder}", *(self.share / f".{folder}").iterdir()]:
            os.chown(path, 0, 0)

    def original(self, folder, number):
        """The file of a message, under the name that it has now."""
        found = list((self.share / f".{folder}" / "cur").glob(f"*.M{number}.h*"))
        return found[0] if found else None

    # -- what the reader is told -----------------------------------------------

    def session(self, user=READER):
        return super().session(user)

    def counts_as_subscribed(self, name, listed):
        # What is above a name for `*`, too.
        return not name[1] and name[0] != "INBOX"

    def told(self):
        client = self.session()
        out = {"namespace": b'"shared." "."' in client.namespace()[1][0], **self.folders_told(client)}
        for name in FOLDERS:
            kind, exists = selected(client, name)
            lines = client.fetch("1:*", "(UID FLAGS RFC822.SIZE INTERNALDATE)")[1] if exists else []
            # READ-ONLY is what the reader may not write into; his flags are kept.
            out["messages", name] = (kind, client.response("UIDVALIDITY")[1][0], [
                (re.search(rb"UID (\d+)", line)[1], flags_of(line), re.search(rb"SIZE (\d+)", line)[1],
                 re.search(rb'DATE "([^"]*)"', line)[1]) for line in lines if line])
        client.logout()
        out["smap"] = self.told_by_smap()
        return out

    def told_by_smap(self):
        """Folders beside the INBOX, and whether SMAP opens a shared one."""
        server = self.peer if self.who == "courier" else self.cursus
        with socket.create_connection(("127.0.0.1", server.ports["imap"]), timeout=30) as one:
            file = one.makefile("rb")
            file.readline()
            told = []
            for command in (f"\\SMAP1 LOGIN {READER} {PASSWORD}\r", "LIST INBOX", "OPEN shared team Open",
                            'OPEN INBOX "#shared-folders" team Open'):
                one.sendall(command.encode() + b"\n")
                lines = [file.readline()]
                while lines[-1][:1] not in b"+-":
                    lines.append(file.readline())
                told.append([*sorted(lines[:-1]), lines[-1].split()[0]])
            return told

    # -- turns -----------------------------------------------------------------

    def turn(self, who):
        """Stops one, starts the other, which has to tell the same."""
        # Whatever is selected is subscribed by that.
        self.told()
        before = self.told()
        if self.who != who:
            self.change_over()
        self.compare(before, self.told())

    def kinds(self, folder):
        """What lies in a copy: (symbolic links, other files)."""
        files = [path for sub in ("new", "cur") for path in (self.copies / folder / sub).iterdir()]
        links = [path for path in files if path.is_symlink()]
        return len(links), len(files) - len(links)
