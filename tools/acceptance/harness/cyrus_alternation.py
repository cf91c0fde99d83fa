"""One spool served by Debian's Cyrus 3.6 and by Cursus in turn, each making random changes.

Between the turns are `cursus takeover cyrus` and `cursus handback cyrus`, as the user that Cyrus runs
as. A model says what every mailbox must hold, as it does for Maildirs (`alternation.py`); besides, after
each hand-back `reconstruct -n` and `quota -f` must find nothing, the files of quota roots must have the
sums of the messages, and mbsync and a POP3 client that goes by UIDLs, which follow through all turns, may
find nothing new but what is new.
"""

import base64
import imaplib
import os
import pathlib
import poplib
import re
import shutil

from . import proc
from .alternation import OTHERS, PASSWORD, USER, Alternation, Client
from .peers import ADMIN, Cyrus
from .server import Cursus
from .wire import Lmtp

# Words of annotations that are set on messages and mailboxes.
NOTES = ["first", "a second one", "x" * 300]


class CyrusTurn(Cursus):
    """cursusd on Cyrus's spool, as the user that owns it."""

    def __init__(self, peer):
        self.peer = peer
        self.launch = ["setpriv", "--reuid=cyrus", "--regid=mail", "--clear-groups"]
        super().__init__("cyrus", [USER], launcher=self.launch, extra=(
            f'[auth]\nadmins = ["{ADMIN}"]\n[sharing]\nshared_user = "bb"\n[pop3]\nuidl = "cyrus"\n'))
        secret = base64.b64encode(PASSWORD.encode()).decode()
        (self.state / "users").write_text(
            "".join(f"{user}:{{PLAIN.B64}}{secret}\n" for user in (USER, *OTHERS[:2], ADMIN)))
        self.added = True
        os.chmod(self.key, 0o644)
        proc.run(["chown", "-R", "cyrus:mail", self.dir])

    def config_text(self):
        return super().config_text().replace(str(self.spool), str(self.peer.dir / "mail"))

    def tool(self, *arguments, **options):
        argv = [*self.launch, proc.BINARIES / "cursus", "--config", self.config, *arguments]
        return proc.run(argv, **options)

    def take_over(self, **options):
        return self.tool("takeover", "cyrus", "--imapd-conf", self.peer.dir / "imapd.conf", **options)

    def hand_back(self, *more, **options):
        return self.tool("handback", "cyrus", "--imapd-conf", self.peer.dir / "imapd.conf", *more, **options)


class CyrusAlternation(Alternation):
    """Turns of Cyrus and Cursus."""

    peers = {"cyrus": Cyrus}

    def __init__(self, old="cyrus", seed=1):
        super().__init__(old, seed)
        self.peer.users = 3
        # (mailbox, its UIDVALIDITY, UID) that mbsync has had.
        self.had, self.files = set(), []
        # UIDVALIDITYs of the mailboxes that it has.
        self.mirrored = {}
        self.limits = None
        self.handed_back = []

    # -- servers ---------------------------------------------------------------

    def start_old(self):
        self.peer.start()
        return Client(self.peer.ports["imap"], self.peer.theirs, self.peer.ours)

    def start_cursus(self):
        if self.cursus is None:
            self.cursus = CyrusTurn(self.peer)
        said = self.cursus.take_over()
        self.takeover_said = said.stdout.decode() + said.stderr.decode()
        self.cursus.start()
        same = lambda name: name
        return Client(self.cursus.ports["imap"], same, same)

    def stop_cursus(self):
        if self.cursus.stop() != 0:
            raise AssertionError(f"cursusd ended badly:\n{self.cursus.log()[-2000:]}")
        self.cursus.hand_back()
        for left in self.cursus.state.glob("handed-back-*"):
            self.handed_back.append(left.name)
            shutil.rmtree(left)
        self.nothing_to_mend()

    # -- Cyrus's own tools -----------------------------------------------------

    def cyrus_tool(self, program, *arguments):
        """What a program of Cyrus's printed."""
        done = proc.run(["setpriv", "--reuid=cyrus", "--regid=mail", "--clear-groups",
                         f"/usr/lib/cyrus/bin/{program}", "-C", self.peer.dir / "imapd.conf", *arguments])
        return done.stdout.decode() + done.stderr.decode()

    def quota_files(self):
        # What `quota -f` writes has its own MODSEQ.
        return {path.name: re.sub(rb" MODSEQ \d+", b"", path.read_bytes())
                for path in (self.peer.dir / "conf").rglob("quota/*/*")}

    def nothing_to_mend(self):
        """`reconstruct -n` names mailboxes and says no word more; `quota -f` corrects nothing."""
        told = self.cyrus_tool("reconstruct", "-n").splitlines()
        more = [line for line in told if " " in line.strip()]
        if more or len(told) < len(self.model.boxes):
            raise AssertionError(f"reconstruct -n: {more or told}")
        before = self.quota_files()
        said = self.cyrus_tool("quota", "-f")
        after = self.quota_files()
        if before != after or ": usage was" in said or not after:
            raise AssertionError(f"quota -f: {said}\n{before}\n{after}")

    # -- changes ---------------------------------------------------------------

    def change(self, client):
        if self.random.random() < 0.15:
            return self.set_quota()
        if self.random.random() < 0.15:
            return self.annotate(client)
        super().change(client)

    def port(self, name):
        ports = self.cursus.ports if self.who == "cursus" else self.peer.ports
        return ports[name] if name in ports else self.peer.base + 24

    def set_quota(self):
        """Limits of the user's root, by an administrator."""
        self.limits = (self.random.randint(40_000, 60_000), self.random.randint(5000, 9000))
        self.as_admin("SETQUOTA", f"user/{USER} (STORAGE {self.limits[0]} MESSAGE {self.limits[1]})")
        self.journal.append(f"{self.who}: quota {self.limits}")

    def as_admin(self, command, rest):
        client = imaplib.IMAP4("127.0.0.1", self.port("imap"), timeout=30)
        client.login(ADMIN, PASSWORD)
        imaplib.Commands.setdefault(command, ("AUTH", "SELECTED"))
        kind, data = client._simple_command(command, rest)
        client.logout()
        if kind != "OK":
            raise AssertionError(f"{command} {rest}: {kind} {data}")

    def annotate(self, client):
        """A private or shared note on a mailbox."""
        name = self.random.choice(sorted(self.model.boxes))
        scope, text = self.random.choice(["/private", "/shared"]), self.random.choice(NOTES + [None])
        value = "NIL" if text is None else f'"{text}"'
        client.ok("xatom", "SETMETADATA", client.wire(name), f"({scope}/comment {value})")
        notes = self.model.boxes[name].setdefault("notes", {})
        notes[scope] = text
        self.journal.append(f"{self.who}: note {name} {scope} {text}")

    def check_notes(self, client, who):
        for name, box in self.model.boxes.items():
            for scope, text in box.get("notes", {}).items():
                client.imap.untagged_responses.clear()
                client.ok("xatom", "GETMETADATA", client.wire(name), f"({scope}/comment)")
                said = b" ".join(part if isinstance(part, bytes) else b" ".join(part)
                                 for part in client.imap.untagged_responses.get("METADATA", []) if part)
                found = re.search(rb'/comment"? (?:\{\d+\} ?|")([^")]*)', said)
                have = found.group(1).decode() if found else None
                if have != text:
                    raise AssertionError(f"{who}: {name} has the note {have!r}, not {text!r}: {said}")

    def look(self, client, name):
        had = self.model.boxes[name]
        super().look(client, name)
        if "notes" in had:
            self.model.boxes[name]["notes"] = had["notes"]

    def check_limits(self, client, who):
        if not self.limits:
            return
        data = client.ok("getquotaroot", client.wire("INBOX"))
        limits = tuple(int(re.search(rb"%s \d+ (\d+)" % word, data[1][0]).group(1))
                       for word in (b"STORAGE", b"MESSAGE"))
        if limits != self.limits:
            raise AssertionError(f"{who}: limits {limits}, not {self.limits}")
        used = int(re.search(rb"MESSAGE (\d+)", data[1][0]).group(1))
        count = sum(len(box["messages"]) for box in self.model.boxes.values())
        if used != count:
            raise AssertionError(f"{who}: {used} messages in the quota, not {count}")

    def deliver(self):
        """A letter by LMTP."""
        with Lmtp(("127.0.0.1", self.port("lmtp"))) as client:
            [(code, text)] = client.deliver([USER], self.message())
        if code != 250:
            raise AssertionError(f"delivery answered {code} {text}")
        self.journal.append(f"{self.who}: delivered")

    # -- the run ---------------------------------------------------------------

    def verify(self, client, who, came=0):
        super().verify(client, who, came)
        self.check_limits(client, who)
        self.check_notes(client, who)

    def forget(self, name):
        """What mbsync has of a mailbox that is gone under this name: its user would remove that."""
        for sub in ("cur", "new", "tmp"):
            shutil.rmtree(self.local / "mail" / name / sub, ignore_errors=True)
        state = name.replace("/", "!")
        for path in (self.local / "state").glob(f":far:_{state}_*"):
            path.unlink()
        self.had = {had for had in self.had if had[0] != name}
        self.files = [file for file in self.files if not file.startswith(f"{pathlib.Path(name).name}/")]

    def clients(self, who):
        """mbsync and a POP3 client fetch what is new to them, and nothing else."""
        boxes = self.model.boxes
        for name, validity in self.mirrored.items():
            if name not in boxes or boxes[name]["validity"] != validity:
                self.forget(name)
        self.mirrored = {name: box["validity"] for name, box in boxes.items()}
        files = self.mbsync(self.port("imap"), "/", "")
        now = {(name, box["validity"], uid) for name, box in boxes.items() for uid in box["messages"]}
        fresh = now - self.had
        self.had |= now
        # Without what tells of flags.
        gained = sorted(set(files) - set(self.files))
        self.files = files
        if len(gained) != len(fresh):
            raise AssertionError(f"{who}: mbsync fetched {gained}, new were {sorted(fresh)}")
        inbox = boxes["INBOX"]
        wanted = sorted(f"{inbox['validity']}.{uid}" for uid in inbox["messages"])
        # RETR would mark as seen here, and not there.
        client = poplib.POP3("127.0.0.1", self.port("pop3"), timeout=20)
        client.user(USER)
        client.pass_(PASSWORD)
        told = sorted(line.decode().split()[1] for line in client.uidl()[1])
        client.quit()
        if told != wanted:
            raise AssertionError(f"{who}: UIDL tells {sorted(set(told) ^ set(wanted))} otherwise")

    def half(self, client, who, changes):
        """A server's turn, from its start on: what was left, changes, letters, clients."""
        self.who = who.rpartition(" ")[2]
        self.verify(client, who)
        self.turn(client, changes)
        came = self.random.randint(0, 2)
        for _ in range(came):
            self.deliver()
        self.verify(client, who, came)
        self.clients(who)
        client.close()

    def turn(self, client, changes):
        notes = {name: box["notes"] for name, box in self.model.boxes.items() if "notes" in box}
        super().turn(client, changes)
        for name, box in self.model.boxes.items():
            if name in notes and "notes" not in box:
                box["notes"] = notes[name]

    def run(self, rounds, changes=12, each=None):
        self.who = "cyrus"
        self.begin().close()
        self.set_quota()
        self.peer.stop()
        for number in range(rounds):
            try:
                self.half(self.start_cursus(), f"round {number}: cursus", changes)
                self.stop_cursus()
                self.half(self.start_old(), f"round {number}: cyrus", changes)
                self.peer.stop()
            except AssertionError as error:
                raise AssertionError(f"round {number}: {error}\n" + "\n".join(self.journal[-40:])) from error
            if each:
                each(number)
