"""Courier's shared folders, served by Courier and by Cursus in turn.

user1's folders and those of user3 are in the shared index, user3 as `boss` in an index of its own;
`lists` is a Maildir that belongs to no account. What users are told at the end of one server's turn
has to be what the other one tells at the beginning of its own.
"""

import os
import random
import re

from .alternation import MAIL_UID
from .sharing_turns import CouriersNames, SharingTurns, flags_of, selected

USERS = ["user1", "user2", "user3"]
READER = "user2"
PATTERNS = ["*", "%", "INBOX*", "#shared.*", "#shared.%", "#shared.lists.%", "#shared.staff.*", "#s*"]
# Those that Courier tells as they are in its files: of `t` and `e` it leaves some out.
LETTERS = set("lrswi")
FOLDERS = ["#shared.lists.News", "#shared.lists.News.Old", "#shared.lists.Private", "#shared.user1.Work",
           "#shared.staff.boss", "#shared.staff.boss.Box", "#shared.user1", "#shared.nobody.x"]


class SharedFolders(SharingTurns):
    users = USERS
    patterns = PATTERNS

    def __init__(self, seed=1):
        super().__init__(seed)
        self.random = random.Random(seed)
        self.tree = None

    # -- the tree --------------------------------------------------------------

    def make(self):
        """Starts Courier for the first time: its script makes accounts."""
        self.start_old().close()
        self.tree = self.peer.dir
        mail, shared = self.tree / "mail", self.tree / "etc/courier/shared"
        self.lists = self.tree / "elsewhere" / "lists"
        self.lists.parent.mkdir()
        os.chown(self.lists.parent, MAIL_UID, MAIL_UID)
        self.tool("maildirmake.courier", self.lists)
        for folder, maildir in [("News", self.lists), ("News.Old", self.lists), ("Private", self.lists),
                                ("Work", mail / "user1/Maildir"), ("Work.Deep", mail / "user1/Maildir"),
                                ("Box", mail / "user3/Maildir")]:
            self.tool("maildirmake.courier", "-f", folder, maildir)
            for n in range(3):
                path = maildir / f".{folder}" / "cur" / f"170000000{n}.M{n}.h:2,{'S' if n else ''}"
                path.write_text(f"From: a@b\nSubject: {folder} {n}\n\nbody {n}\n")
                os.chown(path, MAIL_UID, MAIL_UID)
        for maildir, folder, who, rights in [
                (self.lists, "INBOX.News", "user=user2", "lrsi"), (self.lists, "INBOX.News.Old", "anyone", "lr"),
                (mail / "user1/Maildir", "INBOX.Work", "user=user2", "lrswite"),
                (mail / "user3/Maildir", "INBOX.Box", "anyone", "lrw"),
                (mail / "user3/Maildir", "INBOX", "anyone", "l")]:
            self.tool("maildiracl", "-set", maildir, folder, who, rights)
        shared.chmod(0o755)
        (shared / "index").write_text(
            f"# comment\nuser1\t8\t8\t{mail}/user1\nlists\t8\t8\t{self.lists.parent}\t./lists\n"
            "staff\t*\tstaffindex\n")
        (shared / "staffindex").write_text(f"boss\t8\t8\t{mail}/user3\tMaildir\n")
        index = shared / "index"
        self.cursus = CouriersNames(self.maildir, USERS, f'courier_index = "{index}"\nseen = "shared"')

    # -- what users are told ---------------------------------------------------

    def counts_as_subscribed(self, name, listed):
        # What is above a name for `*`, too, and not what may not be seen.
        return name in listed and not name[1]

    def told(self, user):
        client = self.session(user)
        out = self.folders_told(client)
        out["namespace"] = b'"#shared." "."' in client.namespace()[1][0]
        for name in FOLDERS:
            kind, data = client.myrights(f'"{name}"')
            rights = re.sub(rb'.* "?([a-z]*)"?$', rb"\1", data[-1]).decode() if kind == "OK" else ""
            out["rights", name] = "".join(sorted(set(rights) & LETTERS))
            kind, exists = selected(client, name)
            out["select", name] = kind
            if kind != "NO":
                validity = client.response("UIDVALIDITY")[1][0]
                lines = client.fetch("1:*", "(UID FLAGS)")[1] if exists else []
                out["messages", name] = (validity, [
                    (re.search(rb"UID (\d+)", line)[1], flags_of(line)) for line in lines if line])
        client.logout()
        return out

    def all_told(self):
        return {(user, what): told for user in USERS for what, told in self.told(user).items()}

    # -- changes ---------------------------------------------------------------

    def changes(self, count):
        rnd = self.random
        for _ in range(count):
            name = rnd.choice(FOLDERS)
            what = rnd.choice(["store", "store", "append", "subscribe", "rights", "expunge"])
            client = self.session(READER)
            kind = None
            if what == "append":
                kind = client.append(f'"{name}"', None, None, self.message())[0]
            elif what == "subscribe":
                on = rnd.random() < 0.7
                verb = client.subscribe if on else client.unsubscribe
                kind = verb(f'"{name}"')[0]
            elif what == "rights":
                owner = self.session("user1")
                letters = "".join(rnd.sample("lrswite", rnd.randint(2, 6)))
                kind = owner.setacl('"INBOX.Work"', rnd.choice([READER, "anyone"]), letters)[0]
                owner.logout()
            elif selected(client, name)[1]:
                if what == "store":
                    flags = rnd.choice(["\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "kw1"])
                    kind = client.store("1", rnd.choice(["+FLAGS", "-FLAGS"]), f"({flags})")[0]
                else:
                    kind = client.expunge()[0]
            client.logout()
            self.journal.append(f"{self.who}: {what} {name}: {kind}")

    def run(self, rounds, changes=12):
        self.make()
        told = self.all_told()
        for _ in range(2 * rounds):
            self.changes(changes)
            told = self.all_told()
            self.change_over()
            self.compare(told, self.all_told())
        return told
