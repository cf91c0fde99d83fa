"""One Maildir served by Cursus and by an old server in turn, each making random changes.

A model says what every mailbox must hold. Whoever starts must show exactly that: UIDVALIDITY, UIDs,
flags and keywords, dates, bytes, subscriptions, access control lists. With Courier, its tools
(maildiracl, maildirkw, deliverquota, maildirmake) work on the tree while nobody runs, too, and the
sums in `maildirsize` must be those of the files.
"""

import base64
import hashlib
import imaplib
import json
import os
import pathlib
import poplib
import random
import re
import time

from . import proc
from .peers import PASSWORD, Courier, Dovecot
from .server import Cursus

USER = "user1"
FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "\\Draft"]
WORDS = ["$Forwarded", "$Junk", "NonJunk", "$Label1", "kw1", "kw2", "kw3"]
# Whose rights are changed, and the letters that all servers know.
OTHERS = ["user2", "user3", "anyone"]
RIGHTS = "lrswite"
MAIL_UID = 8
imaplib._MAXLINE = 10_000_000


class Turn(Cursus):
    """cursusd on the old server's tree, as the user that owns it."""

    def __init__(self, maildir, old):
        root, user_path = maildir.split("/mail/", 1)
        names = "utf8" if old == "courier" else "utf7"
        uidl = old
        self.tree = f"{root}/mail"
        self.partition = f'user_path = "{user_path}"\nfolder_names = "{names}"\n'
        run = ["setpriv", f"--reuid={MAIL_UID}", f"--regid={MAIL_UID}", "--clear-groups"]
        super().__init__("maildir", [USER], launcher=run,
                         extra=f'[store]\nhand_back = ["{old}"]\n[pop3]\nuidl = "{uidl}"\n')
        secret = base64.b64encode(PASSWORD.encode()).decode()
        (self.state / "users").write_text(f"{USER}:{{PLAIN.B64}}{secret}\n")
        self.added = True
        os.chmod(self.key, 0o644)
        proc.run(["chown", "-R", f"{MAIL_UID}:{MAIL_UID}", self.dir])

    def config_text(self):
        text = super().config_text().replace(str(self.spool), self.tree)
        return text.replace('layout = "maildir"\n', 'layout = "maildir"\n' + self.partition)


class Client:
    """An IMAP session in terms of names with '/'."""

    def __init__(self, port, theirs, ours):
        self.theirs, self.ours = theirs, ours
        self.imap = imaplib.IMAP4("127.0.0.1", port, timeout=30)
        self.imap.login(USER, PASSWORD)

    def close(self):
        try:
            self.imap.logout()
        except (OSError, imaplib.IMAP4.abort):
            pass

    def ok(self, name, *arguments):
        kind, data = getattr(self.imap, name)(*arguments)
        if kind != "OK":
            raise AssertionError(f"{name} {arguments}: {kind} {data}")
        return data

    def wire(self, name):
        return '"%s"' % self.theirs(name)

    def names(self, verb="list"):
        out = set()
        for line in self.ok(verb, '""', "*"):
            if not line or b"\\Noselect" in line or b"\\NonExistent" in line:
                continue
            name = re.search(rb'\) (?:"."|NIL) "?([^"]*)"?$', line).group(1).decode()
            if not name.startswith(("#", "Other Users", "shared")):
                out.add(self.ours(name))
        return out

    def rights(self, name):
        """Letters of those whom the model knows."""
        acl = {}
        data = self.ok("getacl", self.wire(name))
        words = re.findall(r'"[^"]*"|[^ ]+', data[0].decode())[1:]
        for who, letters in zip(words[::2], words[1::2]):
            who = who.strip('"').removeprefix("user=")
            if who in OTHERS:
                acl[who] = "".join(sorted(set(letters) & set(RIGHTS)))
        return {who: letters for who, letters in acl.items() if letters}

    def state(self):
        """Everything that a client can know."""
        boxes = {}
        for name in sorted(self.names()):
            self.ok("select", self.wire(name), True)
            validity = int(self.imap.response("UIDVALIDITY")[1][0])
            next_uid = self.imap.response("UIDNEXT")[1][0]
            messages = {}
            count = int(self.imap.untagged_responses["EXISTS"][-1])
            if count:
                data = self.ok("fetch", "1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
                # FLAGS may stand behind the literal.
                for i, part in enumerate(data):
                    if not isinstance(part, tuple):
                        continue
                    head = part[0] + b" " + (data[i + 1] if isinstance(data[i + 1], bytes) else b"")
                    uid = int(re.search(rb"UID (\d+)", head).group(1))
                    flags = re.search(rb"FLAGS \(([^)]*)\)", head).group(1).decode().split()
                    date = imaplib.Internaldate2tuple(head)
                    body = hashlib.sha256(part[1]).hexdigest()
                    flags = frozenset(f.lower() for f in flags if f != "\\Recent")
                    messages[uid] = (flags, time.mktime(date), body)
            boxes[name] = {"validity": validity, "messages": messages,
                           "next": int(next_uid) if next_uid else None}
        return boxes


class Model:
    """What both must show."""

    def __init__(self, state, subscribed):
        self.boxes, self.subscribed = state, set(subscribed)

    def check(self, state, subscribed, who):
        wrong = []
        for name in sorted(set(state) ^ set(self.boxes)):
            wrong.append(f"{name} is {'new' if name in state else 'gone'}")
        for name in sorted(set(state) & set(self.boxes)):
            want, have = self.boxes[name], state[name]
            if want["validity"] != have["validity"]:
                wrong.append(f"{name}: UIDVALIDITY {have['validity']}, not {want['validity']}")
            for uid in sorted(set(want["messages"]) | set(have["messages"])):
                a, b = want["messages"].get(uid), have["messages"].get(uid)
                if a != b:
                    wrong.append(f"{name} {uid}: {b}, not {a}")
            if "acl" in want and "acl" in have and want["acl"] != have["acl"]:
                wrong.append(f"{name}: rights {have['acl']}, not {want['acl']}")
            if have["next"] and want["next"] and have["next"] < want["next"]:
                wrong.append(f"{name}: UIDNEXT {have['next']} after {want['next']}")
        if set(subscribed) != self.subscribed:
            wrong.append(f"subscriptions {sorted(subscribed)}, not {sorted(self.subscribed)}")
        if wrong:
            raise AssertionError(f"{who} shows otherwise:\n  " + "\n  ".join(wrong[:20]))


class Alternation:
    peers = {"courier": Courier, "dovecot": Dovecot}

    def __init__(self, old, seed=1):
        self.old, self.random = old, random.Random(seed)
        self.peer = self.peers[old](1)
        self.cursus = None
        self.model = None
        self.n = 0
        self.deliveries = 0
        # Where mbsync keeps what it fetched.
        self.local = None
        # A definition of the quota that Cursus has not seen.
        self.untold = False
        self.journal = []

    # -- servers ---------------------------------------------------------------

    def start_old(self):
        self.peer.start()
        # Its script takes the file away at the stop.
        self.maildir = json.loads((self.peer.dir / "peer.json").read_text())["maildir"]
        return Client(self.peer.ports["imap"], self.peer.theirs, self.peer.ours)

    def start_cursus(self):
        if self.cursus is None:
            self.cursus = Turn(self.maildir, self.old)
        self.cursus.start()
        same = lambda name: name
        return Client(self.cursus.ports["imap"], same, same)

    def main_dir(self):
        return self.maildir.replace("{user}", USER)

    def message(self):
        self.n += 1
        return (f"From: a@example.org\r\nSubject: message {self.n}\r\n\r\n"
                + "line\r\n" * self.random.randint(1, 40)).encode()

    # -- changes ---------------------------------------------------------------

    def change(self, client):
        """One random change, also in the model."""
        boxes, rnd = self.model.boxes, self.random
        name = rnd.choice(sorted(boxes))
        box = boxes[name]
        uids = sorted(box["messages"])
        what = rnd.choice(["rights"] * 2 + ["append"] * 3 + ["flags"] * 4 + ["expunge", "copy", "copy", "subscribe",
                          "create", "delete", "rename"])
        if what == "append":
            flags = rnd.sample(FLAGS, rnd.randint(0, 2)) + rnd.sample(WORDS, rnd.randint(0, 2))
            date = rnd.randint(946684800, 1700000000)
            # Courier appends nothing to a mailbox that is selected read-only.
            self.ok_select(client, name)
            client.ok("append", client.wire(name), "(%s)" % " ".join(flags),
                             imaplib.Time2Internaldate(date), self.message())
            self.look(client, name)
        elif what == "flags" and uids:
            self.ok_select(client, name)
            some = rnd.sample(uids, min(len(uids), rnd.randint(1, 4)))
            sign = rnd.choice(["+FLAGS", "-FLAGS", "FLAGS"])
            flags = rnd.sample(FLAGS, rnd.randint(0, 2)) + rnd.sample(WORDS, rnd.randint(0, 3))
            if sign != "FLAGS" and not flags:
                return
            client.ok("uid", "STORE", ",".join(map(str, some)), sign, "(%s)" % " ".join(flags))
            given = frozenset(f.lower() for f in flags)
            for uid in some:
                had, date, body = box["messages"][uid]
                now = {"+FLAGS": had | given, "-FLAGS": had - given, "FLAGS": given}[sign]
                box["messages"][uid] = (now, date, body)
        elif what == "expunge" and uids:
            self.ok_select(client, name)
            gone = [uid for uid in uids if "\\deleted" in box["messages"][uid][0]]
            if len(gone) < len(uids):
                client.ok("expunge")
                for uid in gone:
                    del box["messages"][uid]
        elif what == "copy" and uids:
            to = rnd.choice(sorted(boxes))
            self.ok_select(client, name)
            some = rnd.sample(uids, min(len(uids), rnd.randint(1, 3)))
            client.ok("uid", "COPY", ",".join(map(str, some)), client.wire(to))
            self.look(client, to)
        elif what == "rights":
            who, letters = rnd.choice(OTHERS), "".join(rnd.sample(RIGHTS, rnd.randint(0, 4)))
            self.set_rights(client, name, who, letters)
        elif what == "subscribe":
            on = rnd.random() < 0.6
            client.ok("subscribe" if on else "unsubscribe", client.wire(name))
            (self.model.subscribed.add if on else self.model.subscribed.discard)(name)
        elif what == "create" and len(boxes) < 7:
            self.n += 1
            fresh = f"box{self.n}" if rnd.random() < 0.7 else f"Work/box{self.n}"
            client.ok("create", client.wire(fresh))
            boxes[fresh] = {"validity": None, "messages": {}, "next": None}
            self.look(client, fresh)
            boxes[fresh]["acl"] = self.rights(client, fresh)
        elif what == "delete" and len(boxes) > 4 and name.split("/")[-1].startswith("box"):
            client.ok("select", client.wire("INBOX"))
            client.ok("unsubscribe", client.wire(name))
            self.model.subscribed.discard(name)
            client.ok("delete", client.wire(name))
            del boxes[name]
        elif what == "rename" and name.split("/")[-1].startswith("box"):
            self.n += 1
            client.ok("select", client.wire("INBOX"))
            client.ok("unsubscribe", client.wire(name))
            self.model.subscribed.discard(name)
            to = f"box{self.n}"
            client.ok("rename", client.wire(name), client.wire(to))
            boxes[to] = boxes.pop(name)
            if self.who == "courier":
                # It gives what it renames a new UIDVALIDITY, and new UIDs.
                boxes[to] = client.state()[to]
                boxes[to]["acl"] = self.rights(client, to)
        else:
            return
        self.journal.append(f"{self.who}: {what} {name}")

    def ok_select(self, client, name):
        client.ok("select", client.wire(name))

    def look(self, client, name):
        """What came into a mailbox, by its UIDs: nothing else may have changed."""
        had = self.model.boxes[name]
        # A session of its own, since some servers tell of changes only in a new one.
        state = client.state()[name]
        for uid, message in had["messages"].items():
            if state["messages"].get(uid) != message:
                raise AssertionError(f"{name} {uid}: {state['messages'].get(uid)}, not {message}")
        if "acl" in had:
            state["acl"] = had["acl"]
        self.model.boxes[name] = state

    # -- rights, keywords and quotas by Courier's own tools --------------------

    def tool(self, program, *arguments, stdin=b""):
        """A program of Courier's packages or maildrop's, as the owner of the tree."""
        tree = pathlib.Path(os.environ.get("CURSUS_PEERS", proc.TARGET / "peers")) / "courier-imap"
        path = tree / "usr" / "bin" / program
        libraries = [tree / "usr/lib/x86_64-linux-gnu", tree / "usr/lib/courier-authlib"]
        run = ["setpriv", f"--reuid={MAIL_UID}", f"--regid={MAIL_UID}", "--clear-groups",
               "env", "LD_LIBRARY_PATH=" + ":".join(map(str, libraries))]
        done = proc.subprocess.run([*run, str(path), *map(str, arguments)], input=stdin,
                                   capture_output=True, timeout=30)
        if done.returncode:
            raise AssertionError(f"{program} {arguments}: {done.stderr} {done.stdout}")
        return done.stdout.decode()

    def folder(self, name):
        """The directory of a mailbox of Courier's."""
        if name == "INBOX":
            return pathlib.Path(self.main_dir())
        decoded = "".join(
            part if n % 2 == 0 else base64.b64decode(part.replace(",", "/") + "=" * (-len(part) % 4)).decode("utf-16-be")
            for n, part in enumerate(re.split(r"&([^-]+)-", name)))
        return pathlib.Path(self.main_dir()) / ("." + decoded.replace("/", "."))

    def couriers(self, name):
        """What maildiracl calls a mailbox."""
        folder = self.folder(name).name
        return "INBOX" if name == "INBOX" else "INBOX" + folder

    def listed_rights(self, name):
        """What maildiracl says."""
        acl = {}
        for line in self.tool("maildiracl", "-list", self.main_dir(), self.couriers(name)).splitlines():
            who, _, letters = line.partition("\t")
            who = who.removeprefix("user=")
            if who in OTHERS:
                acl[who] = "".join(sorted(set(letters) & set(RIGHTS)))
        return {who: letters for who, letters in acl.items() if letters}

    def rights(self, client, name):
        if self.who == "courier":
            return self.listed_rights(name)
        return client.rights(name)

    def set_rights(self, client, name, who, letters):
        if self.who == "courier" or client is None:
            who_there = who if who == "anyone" else f"user={who}"
            if letters:
                self.tool("maildiracl", "-set", self.main_dir(), self.couriers(name), who_there, letters)
            elif who in self.model.boxes[name]["acl"]:
                self.tool("maildiracl", "-delete", self.main_dir(), self.couriers(name), who_there)
        elif letters:
            client.ok("setacl", client.wire(name), who, letters)
        else:
            client.ok("deleteacl", client.wire(name), who)
        acl = self.model.boxes[name]["acl"]
        acl.pop(who, None)
        if letters:
            acl[who] = "".join(sorted(letters))

    def between(self):
        """Courier's tools while nobody runs."""
        if self.old != "courier":
            return
        rnd, boxes = self.random, self.model.boxes
        name = rnd.choice(sorted(boxes))
        self.set_rights(None, name, rnd.choice(OTHERS), "".join(rnd.sample(RIGHTS, rnd.randint(0, 4))))
        uids = {}
        for line in (self.folder(name) / "courierimapuiddb").read_text().splitlines()[1:]:
            uid, _, base = line.partition(" ")
            uids[int(uid)] = base
        known = sorted(set(uids) & set(boxes[name]["messages"]))
        if known:
            uid, word = rnd.choice(known), rnd.choice(["kw1", "kw2", "kw3"])
            sign = rnd.choice(["-a", "-r"])
            file = next(path.name for path in (self.folder(name) / "cur").iterdir()
                        if path.name.startswith(uids[uid] + ":"))
            self.tool("maildirkw", sign, self.folder(name), file, word)
            flags, date, body = boxes[name]["messages"][uid]
            flags = flags | {word} if sign == "-a" else flags - {word}
            boxes[name]["messages"][uid] = (flags, date, body)
            self.journal.append(f"maildirkw {sign} {name} {uid} {word}")
        if rnd.random() < 0.5:
            self.quota = (rnd.randint(40_000_000, 60_000_000), rnd.randint(5000, 9000))
            self.tool("maildirmake.courier", "-q", "%dS,%dC" % self.quota, self.main_dir())
            self.untold = True

    def check_quota(self, client, who):
        """The sum in the file, the limits that clients see."""
        if self.old != "courier":
            return
        until = time.monotonic() + (5 if client else 0)
        # It is counted anew behind a deleted folder, soon.
        while True:
            lines, told, real = self.sums()
            if told == real or time.monotonic() > until:
                break
            time.sleep(0.1)
        if told != real:
            raise AssertionError(f"{who}: maildirsize has {told}, not {real}\n{lines}")
        if client:
            data = client.ok("getquotaroot", client.wire("INBOX"))
            limits = [int(re.search(rb"%s \d+ (\d+)" % word, data[1][0]).group(1))
                      for word in (b"STORAGE", b"MESSAGE")]
            if limits != [self.quota[0] // 1024, self.quota[1]]:
                raise AssertionError(f"{who}: limits {limits}, not {self.quota}")

    def sums(self):
        """Lines of `maildirsize`, their sum, and that of the files."""
        try:
            lines = (self.folder("INBOX") / "maildirsize").read_text().splitlines()
        except FileNotFoundError:
            lines = []
        told = [sum(int(line.split()[n]) for line in lines[1:]) for n in (0, 1)]
        size = count = 0
        for path in self.folder("INBOX").glob("**/*"):
            if not path.is_file() or path.parent.name not in ("cur", "new"):
                continue
            if ".Trash" in str(path) or "T" in path.name.rpartition(":2,")[2]:
                continue
            named = re.search(r",S=(\d+)", path.name)
            try:
                size += int(named.group(1)) if named else path.stat().st_size
            except FileNotFoundError:
                continue
            count += 1
        return lines, told, [size, count]

    def deliver(self):
        """A delivery by a third program while nobody runs."""
        self.deliveries += 1
        if self.old == "courier" and self.random.random() < 0.7:
            self.tool("deliverquota.courier", self.main_dir(), stdin=self.message().replace(b"\r\n", b"\n"))
            return
        path = f"{self.main_dir()}/new/{int(time.time())}.M{self.deliveries}P1.alternation"
        with open(path, "wb") as out:
            out.write(self.message().replace(b"\r\n", b"\n"))
        os.chown(path, MAIL_UID, MAIL_UID)
        if self.old == "courier" and self.cursus and not self.untold and self.random.random() < 0.5:
            # What knows nothing of quotas leaves a sum to be calculated anew.
            (self.folder("INBOX") / "maildirsize").unlink(missing_ok=True)
        elif self.old == "courier":
            self.tool("maildirmake.courier", "-q", "%dS,%dC" % self.quota, self.main_dir())

    # -- the run ---------------------------------------------------------------

    def verify(self, client, who, came=0):
        # Courier forgets the UIDs that it gives at EXAMINE.
        self.ok_select(client, "INBOX")
        state, subscribed = client.state(), client.names("lsub")
        inbox = self.model.boxes["INBOX"]
        fresh = sorted(set(state["INBOX"]["messages"]) - set(inbox["messages"]))
        lost = sorted(set(inbox["messages"]) - set(state["INBOX"]["messages"]))
        if lost:
            raise AssertionError(f"{who}: INBOX has {fresh} and no {lost}")
        if len(fresh) != came or fresh and inbox["next"] and fresh[0] < inbox["next"]:
            raise AssertionError(f"{who}: {fresh} came into INBOX, not {came} from {inbox['next']} on")
        for uid in fresh:
            inbox["messages"][uid] = state["INBOX"]["messages"][uid]
        for name, box in state.items():
            box["acl"] = self.rights(client, name)
        self.model.check(state, subscribed, who)
        for name, box in state.items():
            self.model.boxes[name]["next"] = box["next"] or self.model.boxes[name]["next"]

    def begin(self):
        client = self.start_old()
        for name in ("Work", "Work/box", "Entw&APw-rfe"):
            client.ok("create", client.wire(name))
        for name in ("INBOX", "Work"):
            client.ok("subscribe", client.wire(name))
        for name in ("INBOX", "Work"):
            for _ in range(5):
                client.ok("append", client.wire(name), "(\\Seen)", None, self.message())
        self.model, self.who = Model(client.state(), client.names("lsub")), self.old
        for name, box in self.model.boxes.items():
            box["acl"] = self.rights(client, name)
        self.quota = (50_000_000, 8000)
        if self.old == "courier":
            self.tool("maildirmake.courier", "-q", "%dS,%dC" % self.quota, self.main_dir())
        return client

    def turn(self, client, changes):
        self.who = "cursus" if self.cursus and self.cursus.alive() else self.old
        for _ in range(changes):
            self.change(client)
        # Changes that are told of nowhere but in a new session.
        state = client.state()
        for name, box in state.items():
            box["acl"] = self.rights(client, name)
        self.model.check(state, client.names("lsub"), "at the end of its turn it")
        for name, box in state.items():
            self.model.boxes[name]["next"] = box["next"]

    def run(self, rounds, changes=12, each=None):
        client, came = self.begin(), 0
        for number in range(rounds):
            try:
                self.turn(client, changes)
                client.close()
                self.peer.stop()
                self.between()
                came = self.random.randint(0, 2)
                [self.deliver() for _ in range(came)]
                client = self.start_cursus()
                self.who = "cursus"
                self.verify(client, f"round {number}: cursus", came)
                self.turn(client, changes)
                self.check_quota(client, "cursus")
                self.untold = False
                client.close()
                self.cursus.stop()
                self.check_quota(None, "cursus, stopped")
                self.between()
                came = self.random.randint(0, 2)
                [self.deliver() for _ in range(came)]
                client = self.start_old()
                self.who = self.old
                self.verify(client, f"round {number}: {self.old}", came)
            except AssertionError as error:
                raise AssertionError(f"round {number}: {error}\n{self.journal[-30:]}") from error
            if each:
                each(number)
        client.close()
        self.peer.stop()

    def stop(self):
        if self.cursus and self.cursus.alive():
            self.cursus.stop()
        self.peer.stop()

    # -- clients that keep what they have --------------------------------------

    def mbsync(self, port, separator, prefix):
        """Pulls everything into one local tree; the files there, without flags."""
        if not self.local:
            self.local = proc.new_dir("mb")
            for name in ("mail", "state"):
                (self.local / name).mkdir()
        path = f"Path {prefix}\n" if prefix else ""
        (self.local / "rc").write_text(f"""
IMAPStore far
Host 127.0.0.1
Port {port}
User {USER}
Pass {PASSWORD}
SSLType None
AuthMechs LOGIN
PathDelimiter {separator}
{path}
MaildirStore near
Path {self.local}/mail/
Inbox {self.local}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Near
Sync Pull
SyncState {self.local}/state/
""")
        proc.run(["mbsync", "-c", self.local / "rc", "all"], seconds=60)
        # RETR marks as seen, and what is seen leaves new/.
        return sorted(f"{path.parent.parent.name}/{path.name}".split(":")[0] for path in (self.local / "mail").rglob("*")
                      if path.is_file() and path.parent.name in ("cur", "new"))

    def uidls(self, port):
        client = poplib.POP3("127.0.0.1", port, timeout=20)
        client.user(USER)
        client.pass_(PASSWORD)
        # Servers may number messages in another order: clients go by names.
        names = [line.decode().split() for line in client.uidl()[1]]
        bodies = {name: hashlib.sha256(b"\n".join(client.retr(int(number))[1])).hexdigest()
                  for number, name in names}
        client.quit()
        return sorted(bodies.items())

    def getmail(self, ports):
        """getmail6 by POP3 and by IMAP; how many messages each has by now."""
        if not hasattr(self, "got"):
            self.got = proc.new_dir("gm")
        counts = []
        for kind, port in (("POP3", ports["pop3"]), ("IMAP", ports["imap"])):
            home = self.got / kind
            for sub in ("cur", "new", "tmp"):
                (home / "mail" / sub).mkdir(parents=True, exist_ok=True)
            # What it has seen is in a file by port: the next server is to be the same one.
            for seen in home.glob("oldmail-*"):
                seen.rename(home / re.sub(r"-\d+-" + USER, f"-{port}-{USER}", seen.name))
            mailboxes = 'mailboxes = ("INBOX",)\n' if kind == "IMAP" else ""
            (home / "rc").write_text(
                f"[retriever]\ntype = Simple{kind}Retriever\nserver = 127.0.0.1\nport = {port}\n"
                f"username = {USER}\npassword = {PASSWORD}\n{mailboxes}"
                f"[destination]\ntype = Maildir\npath = {home}/mail/\n"
                "[options]\nread_all = false\nverbose = 0\n")
            # It delivers nothing as root.
            proc.run(["chown", "-R", f"{MAIL_UID}:{MAIL_UID}", home])
            proc.run(["setpriv", f"--reuid={MAIL_UID}", f"--regid={MAIL_UID}", "--clear-groups",
                      "getmail", f"--getmaildir={home}", "--rcfile=rc"], seconds=60)
            counts.append(len(list((home / "mail" / "new").iterdir())))
            if not list(home.glob(f"oldmail-*-{port}-*")):
                raise AssertionError(f"getmail keeps nothing by port {port}: {list(home.iterdir())}")
        return counts

    def nothing_is_fetched_twice(self):
        """mbsync, getmail6 and a POP3 client see the old server, Cursus, and the old server again."""
        told = []
        for turn in ("old", "cursus", "old"):
            client = self.start_old() if turn == "old" else self.start_cursus()
            ports = self.peer.ports if turn == "old" else self.cursus.ports
            dots = turn == "old" and self.old == "courier"
            files = self.mbsync(ports["imap"], "." if dots else "/", "INBOX." if dots else "")
            told.append((files, self.uidls(ports["pop3"]), self.getmail(ports)))
            client.close()
            (self.peer if turn == "old" else self.cursus).stop()
        if not told[0][0] or not told[0][1] or 0 in told[0][2]:
            raise AssertionError(f"nothing was fetched at all: {told[0]}")
        for later in told[1:]:
            for what, first, now in zip(("mbsync", "UIDL"), told[0], later):
                if first != now:
                    raise AssertionError(f"{what}: {sorted(set(first) ^ set(now))[:9]}")
            if told[0][2] != later[2]:
                raise AssertionError(f"getmail has {later[2]} messages after {told[0][2]}")
