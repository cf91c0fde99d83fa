"""The server under test, in a directory of its own.

`ACCEPTANCE_SERVER=dovecot` puts Debian's Dovecot in Cursus's place: a test that an
established server fails too is a wrong test. Tests that are about Cursus alone skip then.
"""

import os
import pathlib
import re
import signal
import socket
import time

from . import proc
from .wire import Imap, Lmtp, Pop3

LAYOUTS = ("maildir", "cyrus")
ORACLE = os.environ.get("ACCEPTANCE_SERVER", "cursus")
DOMAIN = "example.org"
PASSWORD = "correct horse 7"
START_SECONDS = 20


def certificate(directory, name="localhost"):
    """A self-signed certificate and key, as (certificate, key) paths."""
    directory = pathlib.Path(directory)
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    proc.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", cert],
        seconds=30,
    )
    key.chmod(0o600)
    return cert, key


class Server:
    """Ports, paths, accounts and clients that any server under test has."""

    def __init__(self, layout="maildir", users=("alice", "bob"), directory=None):
        self.layout = layout
        self.users = list(users)
        self.dir = pathlib.Path(directory) if directory else proc.new_dir(layout[:2])
        self.ports = {name: proc.free_port() for name in ("imap", "imaps", "pop3", "pop3s", "lmtp")}
        self.lmtp_socket = self.dir / "lmtp.sock"
        self.log_path = self.dir / "server.log"
        self.certificate, self.key = certificate(self.dir)
        self.child = None

    # -- addresses and clients -------------------------------------------------

    def at(self, name):
        return ("127.0.0.1", self.ports[name])

    def address(self, user):
        return f"{user}@{DOMAIN}"

    def imap(self, user="alice", **options):
        client = Imap(self.at("imap"), **options)
        return client.login(user, PASSWORD) if user else client

    def lmtp(self, **options):
        return Lmtp(self.at("lmtp"), **options)

    def pop3(self, user="alice", utf8=False, **options):
        """A session; with `utf8`, headers come as they are stored, if the server knows UTF8.
        Else those in UTF-8 come as encoded-words (RFC 6856)."""
        def login():
            client = Pop3(self.at("pop3"), **options)
            if utf8 and b"UTF8" in [line.split()[0] for line in client.lines("CAPA")]:
                client.ok("UTF8")
            if not user:
                return client
            client.ok(f"USER {user}")
            answer = client.command(f"PASS {PASSWORD}")
            if answer.startswith(b"+OK"):
                return client
            client.close()
            # The session before was closed this moment and may not be over.
            if b"[IN-USE]" not in answer:
                raise AssertionError(f"PASS answered {answer!r}")
            return None

        return proc.wait_until(login, 5, "the maildrop's lock")

    def deliver(self, message, user="alice"):
        with self.lmtp() as client:
            [(code, text)] = client.deliver([self.address(user)], message)
            if code != 250:
                raise AssertionError(f"delivery answered {code} {text}")

    def fill(self, messages, user="alice", mailbox="INBOX"):
        """Appends messages by IMAP, all in one connection."""
        with self.imap(user) as client:
            return [client.append(mailbox, one) for one in messages]

    # -- life ------------------------------------------------------------------

    def accepts(self):
        """Whether it greets: sockets queue connections before there is anyone to answer."""
        for name in ("imap", "lmtp"):
            try:
                with socket.create_connection(self.at(name), timeout=START_SECONDS) as probe:
                    if not probe.recv(100):
                        return False
            except OSError:
                return False
        return True

    def wait_ready(self):
        def ready():
            if not self.child.alive():
                raise AssertionError(f"server ended at start:\n{self.log()[-4000:]}")
            return self.accepts()

        proc.wait_until(ready, START_SECONDS, "the server to accept")
        if self.lmtp_socket.exists():
            self.lmtp_socket.chmod(0o666)

    def log(self):
        try:
            return self.log_path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def alive(self):
        return self.child is not None and self.child.alive()

    def stop(self):
        """SIGTERM and the exit status."""
        status = self.child.stop() if self.child else None
        self.child = None
        return status

    def kill(self):
        """kill -9: what a crash of the process leaves."""
        self.child.kill()
        self.child = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        if self.child:
            self.stop()

    def complaints(self):
        """Log lines that no run should have: panics and bugs."""
        return [l for l in self.log().splitlines()
                if re.search(r"a defect of the server|panicked at|Fatal:", l)]


class Cursus(Server):
    """cursusd with a cursus.toml of the test's."""

    def __init__(self, layout="maildir", users=("alice", "bob"), *, io="auto", directory=None,
                 limits=None, extra="", server_extra="", launcher=()):
        super().__init__(layout, users, directory)
        self.io = io
        self.limits = limits or {}
        self.extra = extra
        self.server_extra = server_extra
        self.launcher = list(launcher)
        self.state = self.dir / "state"
        self.spool = self.dir / "spool"
        self.state.mkdir(exist_ok=True)
        self.spool.mkdir(exist_ok=True)
        self.config = self.dir / "cursus.toml"
        self.write_config()
        self.added = False

    def write_config(self):
        self.config.write_text(self.config_text())

    def config_text(self):
        limits = "\n".join(f"{k} = {v}" for k, v in self.limits.items())
        listeners = "".join(
            f'[[listener]]\nprotocol = "{protocol}"\naddress = "{address}"\n'
            f'tls = "{tls}"\n' + (f'plain_login = "loopback"\n' if protocol != "lmtp" and tls != "implicit" else "")
            for protocol, address, tls in (
                ("imap", "127.0.0.1:%d" % self.ports["imap"], "starttls"),
                ("imap", "127.0.0.1:%d" % self.ports["imaps"], "implicit"),
                ("pop3", "127.0.0.1:%d" % self.ports["pop3"], "starttls"),
                ("pop3", "127.0.0.1:%d" % self.ports["pop3s"], "implicit"),
                ("lmtp", "127.0.0.1:%d" % self.ports["lmtp"], "none"),
                ("lmtp", f"unix:{self.lmtp_socket}", "none"),
            )
        )
        return (
            f'state_dir = "{self.state}"\n'
            f'default_partition = "default"\n'
            f'[[partition]]\nname = "default"\npath = "{self.spool}"\nlayout = "{self.layout}"\n'
            f'[server]\ncores = 2\nio = "{self.io}"\nhostname = "mail.{DOMAIN}"\n{self.server_extra}'
            f"{listeners}"
            f'[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n'
            f"[limits]\n{limits}\n"
            f"{self.extra}"
        )

    def tool(self, *arguments, **options):
        """Runs `cursus` against this store."""
        return proc.run([proc.BINARIES / "cursus", "--config", self.config, *arguments], **options)

    def add_users(self):
        lines = "".join(f"{user}:{PASSWORD}\n" for user in self.users)
        self.tool("user", "add", "--bulk", stdin=lines, seconds=60)
        self.added = True

    def start(self, env=None, **options):
        if not self.added:
            self.add_users()
        argv = [*self.launcher, proc.BINARIES / "cursusd", "--config", self.config]
        self.child = proc.Child(argv, self.log_path, env=env, **options)
        self.wait_ready()
        return self

    def maildir(self, user="alice"):
        """The INBOX directory of a user on disk, found by its `new/`."""
        if self.layout != "maildir":
            raise ValueError("no Maildir in this layout")
        for path in sorted(self.spool.rglob("new")):
            if path.is_dir() and user in path.parent.parts:
                if not path.parent.name.startswith("."):
                    return path.parent
        found = [str(p) for p in self.spool.rglob("*")][:40]
        raise AssertionError(f"no Maildir of {user} below {self.spool}: {found}")


class Dovecot(Server):
    """Debian's Dovecot as oracle, Maildir only."""

    def __init__(self, layout="maildir", users=("alice", "bob"), *, directory=None, **_):
        super().__init__(layout, users, directory)
        import pwd
        self.uid = pwd.getpwnam("mail").pw_uid
        self.state = self.dir / "state"
        self.mail = self.dir / "mail"
        for path in (self.state, self.mail):
            path.mkdir(exist_ok=True)
        os.chown(self.mail, self.uid, self.uid)
        (self.dir / "users").write_text(
            "".join(f"{u}:{{PLAIN}}{PASSWORD}\n" for u in self.users))
        self.config = self.dir / "dovecot.conf"
        inet = lambda name, port, ssl=False: (
            f"  inet_listener {name} {{\n    address = 127.0.0.1\n    port = {port}\n"
            + ("    ssl = yes\n" if ssl else "") + "  }\n")
        self.config.write_text(f"""
base_dir = {self.state}
libexec_dir = {os.environ.get("ACCEPTANCE_DOVECOT", "")}/usr/lib/dovecot
state_dir = {self.state}
log_path = {self.log_path}
protocols = imap pop3 lmtp
ssl = yes
ssl_cert = <{self.certificate}
ssl_key = <{self.key}
disable_plaintext_auth = no
mail_location = maildir:{self.mail}/%n
mail_uid = {self.uid}
mail_gid = {self.uid}
first_valid_uid = 1
first_valid_gid = 1
auth_username_format = %n
mail_max_userip_connections = 5000
protocol lmtp {{
  auth_username_format = %n
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
passdb {{
  driver = passwd-file
  args = {self.dir}/users
}}
userdb {{
  driver = static
  args = uid={self.uid} gid={self.uid} home={self.mail}/%n
}}
service imap-login {{
{inet("imap", self.ports["imap"])}{inet("imaps", self.ports["imaps"], True)}}}
service pop3-login {{
{inet("pop3", self.ports["pop3"])}{inet("pop3s", self.ports["pop3s"], True)}}}
service lmtp {{
{inet("lmtp", self.ports["lmtp"])}
  unix_listener {self.lmtp_socket} {{
    mode = 0666
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
""")

    def kill(self):
        # Its processes outlive a killed master; only Cursus is tested for crashes.
        self.stop()

    def start(self, **_):
        self.child = proc.Child([proc.find_program("dovecot"), "-F", "-c", self.config],
                                self.dir / "stderr.log")
        self.wait_ready()
        return self

    def maildir(self, user="alice"):
        return self.mail / user


def make(layout="maildir", **options):
    """The server that this run tests."""
    return Dovecot(layout, **options) if ORACLE == "dovecot" else Cursus(layout, **options)
