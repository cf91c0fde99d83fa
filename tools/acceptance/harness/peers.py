"""The servers that transcripts are compared on: Cursus, and Debian's Dovecot, Cyrus and Courier.

The peers are started by the scripts of benches/peers, which install or unpack them; everything
of them is in directories of the run, and their packages stay below target/.
"""

import base64
import json
import os

from . import proc
from .server import DOMAIN, Cursus

SCRIPTS = proc.ROOT / "benches" / "peers"
PASSWORD = "load-test"
ADMIN = "cyrus"
# Of LMTP, POP3, IMAP, and the two with TLS, above a peer's base: see benches/peers/common.
PORTS = (24, 110, 143, 993, 995)


def names(count):
    """Pairs of users; user1 and user2 are the first transcript's alice and bob."""
    return [f"user{n}" for n in range(1, count + 1)]


class Site:
    """What replaying needs to know of a running server."""

    name = ""
    # The administrator's name, where the server has one.
    admin = None
    # Transcripts whose head `with` says so need a server with this switched on.
    variant = ""
    ports = {}

    def theirs(self, mailbox):
        """What this server calls a mailbox that transcripts call so."""
        return mailbox

    def ours(self, mailbox):
        return mailbox


class CursusSite(Site, Cursus):
    name = "cursus"
    admin = ADMIN

    def __init__(self, layout, users, variant=""):
        self.variant = variant
        more = {"trash": "[trash]\nmove_expunged = true\n"}.get(variant, "")
        limit = "message_limit = 3\n" if variant == "limit" else ""
        Cursus.__init__(
            self, layout, names(users) + [ADMIN, "bb"],

            extra=f'[auth]\nadmins = ["{ADMIN}"]\n[sharing]\nshared_user = "bb"\n'
                  f'[imap]\nsmap = true\n{limit}'
                  f'[store]\nquota_bytes = 10485760\n[search]\nfuzzy = true\n{more}')

    def config_text(self):
        # URLs have to name the server, and peers are called so.
        return super().config_text().replace(f"mail.{DOMAIN}", "localhost")

    def add_users(self):
        # Plain, so that hundreds of logins cost nothing.
        secret = base64.b64encode(PASSWORD.encode()).decode()
        (self.state / "users").write_text(
            "".join(f"{user}:{{PLAIN.B64}}{secret}\n" for user in self.users))
        self.added = True


class Peer(Site):
    """A server of Debian's, by its script in benches/peers."""

    def __init__(self, users, variant=""):
        self.users, self.variant = users, variant
        self.dir = proc.new_dir(self.name[:3])
        self.base = None

    def script(self, verb, *options, seconds=120):
        cache = proc.TARGET / "peers"
        cache.mkdir(parents=True, exist_ok=True)
        return proc.run([SCRIPTS / self.name, verb, self.dir, *options], seconds=seconds,
                        env={"CURSUS_PEERS": os.environ.get("CURSUS_PEERS", str(cache))})

    def start(self):
        """Raises AssertionError, with what the script said, where the peer cannot be had."""
        self.base = proc.free_base(PORTS)
        self.script("start", "--users", self.users, "--port", self.base, "--full", self.variant or "yes")
        told = json.loads((self.dir / "peer.json").read_text())
        self.version = told["version"]
        self.ports = {name: told[name] for name in ("imap", "pop3")}
        return self

    def stop(self):
        if (self.dir / "peer.json").exists():
            self.script("stop")

    def log(self):
        return "".join(path.read_text("utf-8", "replace")[-3000:] for path in self.dir.glob("*.log"))


class Dovecot(Peer):
    name = "dovecot"


class Cyrus(Peer):
    name = "cyrus"
    admin = ADMIN


class Courier(Peer):
    """Its names begin with INBOX and have dots."""

    name = "courier"

    def theirs(self, mailbox):
        if not mailbox or mailbox == "INBOX" or mailbox.startswith("#"):
            return mailbox
        return "INBOX." + mailbox.replace("/", ".")

    def ours(self, mailbox):
        return mailbox.removeprefix("INBOX.").replace(".", "/")


PEERS = (Dovecot, Cyrus, Courier)
