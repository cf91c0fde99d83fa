"""What runs with Courier's shared folders have in common, be they in an index or on the filesystem: cursusd
with Courier's names, what a user is told of folders, and turns in which each server has to tell what
the other one did.
"""

import base64
import imaplib
import re

from .alternation import Alternation, Turn
from .peers import PASSWORD


def selected(client, name):
    """How a mailbox was opened, and how many messages it has."""
    try:
        kind, data = client.select(f'"{name}"')
    except imaplib.IMAP4.readonly:
        kind, data = "READ-ONLY", client.untagged_responses["EXISTS"]
        client.is_readonly = True
    return kind, int(data[-1]) if kind != "NO" else 0


def flags_of(line):
    """Those of a FETCH, but for what the server says of the session."""
    return frozenset(re.search(rb"FLAGS \(([^)]*)\)", line)[1].split()) - {b"\\Recent"}


class CouriersNames(Turn):
    """cursusd with Courier's names."""

    def __init__(self, maildir, users, sharing):
        super().__init__(maildir, "courier")
        self.config.write_text(self.config.read_text().replace(
            'protocol = "imap"\n', 'protocol = "imap"\nnames = "courier"\n') + f"[sharing]\n{sharing}\n")
        secret = base64.b64encode(PASSWORD.encode()).decode()
        (self.state / "users").write_text(
            "".join(f"{user}:{{PLAIN.B64}}{secret}\n" for user in users))


class SharingTurns(Alternation):
    users = []
    patterns = []

    def __init__(self, seed=1):
        super().__init__("courier", seed)
        self.peer.users = len(self.users)
        self.who = "courier"

    def session(self, user):
        server = self.peer if self.who == "courier" else self.cursus
        client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30)
        client.login(user, PASSWORD)
        return client

    def counts_as_subscribed(self, name, listed):
        """Courier's LSUB shows more than what is subscribed."""
        raise NotImplementedError

    def folders_told(self, client):
        """Answers to LIST and LSUB: names, and whether each cannot be selected."""
        out = {}
        for verb in ("list", "lsub"):
            for pattern in self.patterns:
                lines = [line for line in getattr(client, verb)('""', f'"{pattern}"')[1] if line]
                names = [re.fullmatch(rb'\((.*)\) "\." "?([^"]*)"?', line).groups() for line in lines]
                found = sorted((name.decode(), b"\\Noselect" in attributes) for attributes, name in names)
                if verb == "lsub":
                    found = [one for one in found if self.counts_as_subscribed(one, out["list", pattern])]
                out[verb, pattern] = found
        return out

    def compare(self, before, now):
        wrong = [f"{what}: {self.who} tells {now[what]}, the other {before[what]}"
                 for what in before if before[what] != now[what]]
        if wrong:
            raise AssertionError("\n".join([*wrong[:20], *self.journal[-20:]]))

    def change_over(self):
        """Stops one server and starts the other."""
        if self.who == "courier":
            self.peer.stop()
            self.cursus.start()
            self.who = "cursus"
        else:
            self.cursus.stop()
            self.start_old().close()
            self.who = "courier"
