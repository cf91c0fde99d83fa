"""Variables of Courier's files with a visible effect, each set beside Debian's Courier 5.0: the same files, the same
questions, equal answers. Variables of a set are effective together.

`COURIER_VARIABLES=all` leaves each out of its set in turn, too: Courier must answer otherwise, so that it is sure that
each is tried, and Cursus as Courier does, where it takes such files.
"""

import copy
import hashlib
import json
import os
import re
import select
import shutil
import socket
import ssl
import unittest

from harness import proc
from harness.case import Case
from harness.peers import PASSWORD, Courier
from harness.server import PASSWORD as OTHER_PASSWORD
from harness.server import Server, certificate
from harness.wire import Closed, Imap, Pop3

ALL = os.environ.get("COURIER_VARIABLES") == "all"
# What Courier can tell of itself that clients go by; Cursus tells more.
WORDS = {"UIDPLUS", "CHILDREN", "NAMESPACE", "QUOTA", "IDLE", "ACL"}
SORTS = {"THREAD=ORDEREDSUBJECT": "THREAD ORDEREDSUBJECT UTF-8 ALL", "THREAD=REFERENCES": "THREAD REFERENCES UTF-8 ALL",
         "SORT": "SORT (DATE) UTF-8 ALL"}
# What Cursus, too, tells before a login.
FIRST = {"SMAP1", "STARTTLS", "LOGINDISABLED", "AUTH=PLAIN", "AUTH=LOGIN", "AUTH=CRAM-MD5", "AUTH=EXTERNAL"}
MECHANISMS = {"PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"}
BOTH_TLS = ("imapd-ssl", "pop3d-ssl")

# Name of the file, variables.
SETS = {
    "fewer_words": {
        "imapd": {"IMAP_CAPABILITY": '"IMAP4rev1 CHILDREN NAMESPACE THREAD=REFERENCES"', "IMAP_ACL": "0",
                  "SMAP_CAPABILITY": "SMAP1", "IMAP_ID_FIELDS": "0"},
        "imapd-ssl": {"IMAPDSTARTTLS": "NO"},
        "pop3d-ssl": {"POP3_STARTTLS": "NO"},
    },
    "mechanisms": {
        "imapd": {"IMAP_CAPABILITY": '"IMAP4rev1 UIDPLUS SORT AUTH=PLAIN"', "IMAP_DISABLETHREADSORT": "1",
                  "IMAP_CAPABILITY_TLS": '"IMAP4rev1 UIDPLUS SORT AUTH=PLAIN AUTH=LOGIN"', "IMAP_ID_FIELDS": "3"},
        "pop3d": {"POP3AUTH": '"PLAIN"', "POP3AUTH_TLS": '"PLAIN LOGIN"'},
    },
    "tls_first": {
        "imapd-ssl": {"IMAP_TLS_REQUIRED": "1", "TLS_PRIORITY": '"NORMAL:-VERS-ALL:+VERS-TLS1.3"'},
        "pop3d-ssl": {"POP3_TLS_REQUIRED": "1", "TLS_PRIORITY": '"NORMAL:-VERS-ALL:+VERS-TLS1.3"'},
    },
    "limits_and_domain": {
        "imapd": {"MAXPERIP": "3", "DEFDOMAIN": '"@example.org"', "MAILDIRPATH": "Mail",
                  "IMAP_SHAREDINDEXFILE": "@ETC@/shared/other"},
        "pop3d": {"MAXDAEMONS": "2", "DEFDOMAIN": '"@example.org"', "MAILDIRPATH": "Mail"},
        "imapd-ssl": {"MAILDIRPATH": "Mail"},
        "pop3d-ssl": {"MAILDIRPATH": "Mail"},
    },
    "certificates": {
        file: {"TLS_VERIFYPEER": "REQUIREPEER", "TLS_TRUSTCERTS": "@DIR@/ca.pem", "TLS_EXTERNAL": "CN",
               "TLS_CERTFILE": "@DIR@/second.pem"}
        for file in BOTH_TLS
    },
}

# Where the others that are honoured are tried, or why they are not.
ELSEWHERE = {
    "authmodulelist": "every login here; test_users",
    "authdaemonvar": "test_users",
    "ADDRESS": "every listener here; test_inherit",
    "PORT": "every listener here; test_inherit",
    "SSLPORT": "every listener here; test_inherit",
    "SSLADDRESS": "every listener here; test_inherit",
    "TCPDOPTS": "its options turn off what is not there",
    "IMAP_TRASHFOLDERNAME": "test_alternation: Trash and Outbox",
    "IMAP_MOVE_EXPUNGE_TO_TRASH": "test_alternation: Trash and Outbox",
    "OUTBOX": "test_alternation: Trash and Outbox",
    "SENDMAIL": "test_alternation: Trash and Outbox",
    "HEADERFROM": "test_alternation: Trash and Outbox",
    "OUTBOX_MULTIPLE_SEND": "test_alternation: Trash and Outbox",
    "IMAP_EMPTYTRASH": "goes by the time of the last change of a file, which only passes; server/tests/sessions",
    "IMAPDSTART": "test_what_is_not_started",
    "POP3DSTART": "test_what_is_not_started",
    "IMAPDSSLSTART": "test_what_is_not_started",
    "POP3DSSLSTART": "test_what_is_not_started",
    "TLS_PROTOCOL": "Debian's Courier is built with GnuTLS, which does not read it",
    "TLS_CIPHER_LIST": "Debian's Courier is built with GnuTLS, which does not read it",
    "TLS_PRIVATE_KEYFILE": "server/inherit: Debian's Courier has both in TLS_CERTFILE",
}


class ByFiles(Server):
    """cursusd with the files of the Courier beside it, on a tree of its own."""

    def __init__(self, etc, ports, mail):
        super().__init__("maildir", ())
        self.ports.update(ports)
        self.etc = etc
        self.config = self.dir / "cursus.toml"
        path = re.search(r"^MAILDIRPATH=(.*)", (etc / "imapd").read_text(), re.M)[1]
        self.config.write_text(
            f'state_dir = "{self.dir}"\n[[partition]]\nname = "default"\npath = "{mail}"\nlayout = "maildir"\n'
            f'user_path = "{{user}}/{path}"\n')

    def accepts(self):
        return re.search(r"\bready\b", self.log()) is not None

    def start(self):
        argv = [proc.BINARIES / "cursusd", "--config", self.config, "--courier", self.etc]
        self.child = proc.Child(argv, self.log_path)
        self.wait_ready()
        return self


class CourierVariables(Case):
    seconds = 200

    @classmethod
    def setUpClass(cls):
        cls.peer = None

    def setUp(self):
        super().setUp()
        self.only_cursus()
        self.made()

    def made(self):
        """Debian's Courier as it is shipped, with a few accounts, not started."""
        peer = self.peer = Courier(2, "files")
        try:
            peer.start()
        except AssertionError as error:
            self.skipTest(f"no Courier: {str(error)[-200:]}")
        peer.stop()
        self.addCleanup(peer.stop)
        self.etc, self.mail = peer.dir / "etc" / "courier", peer.dir / "mail"
        for name in ("first", "second"):
            pem, key = certificate(peer.dir, name)
            pem.write_text(key.read_text() + pem.read_text())
        self.client_certificate(peer.dir)
        users = (self.etc / "userdb").read_text()
        secret = users.splitlines()[0].rpartition("systempw=")[2]
        other = proc.run(["openssl", "passwd", "-1", OTHER_PASSWORD]).stdout.decode().strip()
        line = "{}\tuid=8|gid=8|home={}|systempw={}\n"
        home = lambda name: f"{self.mail}/{name}"
        lines = [line.format(name, home(name), secret) for name in ("user1", "user2")]
        # Who logs in by that name alone, where there is a default domain.
        lines.append(line.format("user1@example.org", home("user1@example.org"), other))
        (self.etc / "userdb").write_text("".join(lines))
        for user in ("user1", "user2", "user1@example.org"):
            for path in ("Maildir", "Mail"):
                for sub in ("cur", "new", "tmp"):
                    (self.mail / user / path / sub).mkdir(parents=True, exist_ok=True)
            # So that one knows which directory is served.
            for path, letters in (("Maildir", 1), ("Mail", 2)):
                for n in range(letters):
                    (self.mail / user / path / "cur" / f"170000000{n}.M{n}P1.h:2,S").write_text("Subject: x\n\ny\n")
        proc.run(["chown", "-R", "mail:mail", self.mail])
        shared = self.etc / "shared"
        shared.mkdir(exist_ok=True)
        (shared / "index").write_text("")
        (shared / "other").write_text(f"user2\t8\t8\t{home('user2')}\tMail\n")
        acl = self.mail / "user2" / "Mail" / "courierimapacl"
        acl.write_text("owner aceilrstwx\nanyone lr\n")
        self.original = {file: (self.etc / file).read_text() for file in ("imapd", "imapd-ssl", "pop3d", "pop3d-ssl")}
        # Ports of Cursus; Courier's are given to its daemons.
        self.ports = {name: proc.free_port() for name in ("imap", "imaps", "pop3", "pop3s")}
        self.base = {
            "imapd": {"ADDRESS": "127.0.0.1", "PORT": self.ports["imap"],
                      "IMAP_SHAREDINDEXFILE": "@ETC@/shared/index"},
            "imapd-ssl": {"SSLADDRESS": "127.0.0.1", "SSLPORT": self.ports["imaps"], "TLS_CERTFILE": "@DIR@/first.pem",
                          "TLS_CACHEFILE": "", "TLS_TRUSTCERTS": ""},
            "pop3d": {"ADDRESS": "127.0.0.1", "PORT": self.ports["pop3"]},
            "pop3d-ssl": {"SSLADDRESS": "127.0.0.1", "SSLPORT": self.ports["pop3s"], "TLS_CERTFILE": "@DIR@/first.pem",
                          "TLS_CACHEFILE": "", "TLS_TRUSTCERTS": ""},
        }

    def client_certificate(self, directory):
        """user1's, by an authority of its own: ca.pem, client.pem with its key."""
        authority, key = certificate(directory, "ca")
        client, own = directory / "client.pem", directory / "client.key"
        proc.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                  "2", "-subj", "/CN=user1", "-addext", "basicConstraints=critical,CA:FALSE", "-CA", authority,
                  "-CAkey", key, "-keyout", own, "-out", client])
        client.write_text(own.read_text() + client.read_text())

    def write(self, variables):
        """Debian's files with these variables."""
        for file, text in self.original.items():
            values = self.base[file] | variables.get(file, {})
            lines = [line for line in text.splitlines() if line.partition("=")[0] not in values]
            for name, value in values.items():
                # What another line is made of stands before it.
                value = str(value).replace("@ETC@", str(self.etc)).replace("@DIR@", str(self.peer.dir))
                lines.insert(0 if name == "IMAP_CAPABILITY" else len(lines), f"{name}={value}")
            (self.etc / file).write_text("\n".join([*lines, ""]))

    # -- what is asked ---------------------------------------------------------

    def probe(self, ports):
        """Everything that a client can learn, by name."""
        out = {}
        for name in ("imap", "pop3"):
            out[name] = getattr(self, f"ask_{name}")(("127.0.0.1", ports[name]))
            out[f"{name} connections"] = self.connections(ports[name])
            out[f"{name} tls"] = self.tls(ports[name + "s"], name)
        return out

    def words(self, line, known=FIRST):
        return sorted(known & set(line.decode().replace("]", " ").split()))

    def ask_imap(self, at):
        out = {}
        with Imap(at) as client:
            self.assertEqual(self.words(client.greeting), self.words(client.command("CAPABILITY")[0]))
            out["first"] = self.words(client.greeting)
            out["login"] = b" OK" in client.command(f'LOGIN user1 "{self.password}"')[-1][:20]
            if out["login"]:
                out.update(self.within(client))
        with Imap(at) as client:
            out["starttls"] = b" OK" in client.command("STARTTLS")[-1][:20]
            if out["starttls"]:
                try:
                    client.socket = self.context().wrap_socket(client.socket)
                    out["first by tls"] = self.words(client.command("CAPABILITY")[0])
                    out["login by tls"] = b" OK" in client.command(f'LOGIN user1 "{self.password}"')[-1][:20]
                except (ssl.SSLError, Closed, OSError):
                    out["first by tls"] = "refused"
        return out

    def id_keys(self, client):
        """Of ID, whether it is told, and what of version and system."""
        told = [b" ID " in client.command("CAPABILITY")[0] + b" "]
        text = b"".join(client.command("ID NIL")).lower()
        return told + sorted(key for key in ("version", "os") if b'"%s"' % key.encode() in text)

    def within(self, client):
        """What there is after a login."""
        told = client.command("CAPABILITY")[0]
        client.ok("EXAMINE INBOX")
        # Courier refuses what IMAP_DISABLETHREADSORT names and tells it all the same.
        sorts = [word for word in self.words(told, set(SORTS)) if b" OK" in client.command(SORTS[word])[-1][:20]]
        return {
            "words": self.words(told, WORDS),
            "sorts": sorts,
            "ids": self.id_keys(client),
            "messages": client.command("STATUS INBOX (MESSAGES)")[0].split()[-1],
            "shared": [b"#shared.user2" in line for line in client.ok('LIST "" "#shared.%"')[:-1]],
        }

    def ask_pop3(self, at):
        out = {}
        with Pop3(at) as client:
            out["capa"] = self.capa(client)
            user = client.command("USER user1")
            out["login"] = user.startswith(b"+OK") and client.command(f"PASS {self.password}").startswith(b"+OK")
            if out["login"]:
                out["messages"] = client.command("STAT").split()[1]
        with Pop3(at) as client:
            out["starttls"] = client.command("STLS").startswith(b"+OK")
            if out["starttls"]:
                try:
                    client.socket = self.context().wrap_socket(client.socket)
                    out["after"] = self.capa(client)
                except (ssl.SSLError, Closed, OSError):
                    out["after"] = "refused"
        return out

    def capa(self, client):
        """Ways to log in, STLS."""
        out = set()
        for line in client.lines("CAPA"):
            words = line.decode().split()
            if words[0] == "SASL":
                out |= {f"SASL {word}" for word in words[1:] if word in MECHANISMS}
            if words[0] in ("STLS", "USER"):
                out.add(words[0])
        return sorted(out)

    def connections(self, port):
        """How many of six connections are greeted; the others wait, or are told off. Twice, as a connection
        before these may be there still."""
        return max(self.greeted(port) for _ in range(2))

    def greeted(self, port):
        wires = []
        for _ in range(6):
            wires.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            select.select(wires[-1:], [], [], 0.5)
        try:
            readable = select.select(wires, [], [], 0)[0]
            return sum(wire.recv(10).startswith((b"* OK", b"+OK")) for wire in readable)
        finally:
            for wire in wires:
                wire.close()

    def context(self, version=None, own=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version:
            context.minimum_version = context.maximum_version = version
        if own:
            context.load_cert_chain(self.peer.dir / "client.pem")
        return context

    def tls(self, port, protocol):
        """With which versions and certificates one is greeted, by which certificate, and what is told then."""
        out = {}
        for name, version, own in (("1.2", ssl.TLSVersion.TLSv1_2, False), ("1.3", ssl.TLSVersion.TLSv1_3, False),
                                   ("own", None, True)):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
                    with self.context(version, own).wrap_socket(plain) as wire:
                        greeted = wire.recv(2000)
                        if not greeted:
                            raise OSError("no greeting")
                        told = self.words(greeted) if protocol == "imap" else []
                        if "AUTH=EXTERNAL" in told:
                            told.append(self.said(wire, "a AUTHENTICATE EXTERNAL", "")[-1].split()[1])
                        if protocol == "pop3" and own:
                            told.append("EXTERNAL" in " ".join(self.said(wire, "CAPA")))
                        if name == "1.3":
                            login = [f'a LOGIN user1 "{self.password}"', "b STATUS INBOX (MESSAGES)"]
                            if protocol == "pop3":
                                login = ["USER user1", f"PASS {self.password}", "STAT"]
                            # How many messages there are.
                            told += re.findall(r"MESSAGES \d+|\+OK \d+ \d+", " ".join(self.said(wire, *login)))
                        out[name] = (hashlib.sha256(wire.getpeercert(True)).hexdigest()[:8], told)
            except (OSError, ssl.SSLError):
                out[name] = "refused"
        return out

    def said(self, wire, *commands):
        """Lines that each command is answered, the last one of each last."""
        lines = []
        for command in commands:
            wire.sendall(f"{command}\r\n".encode())
            text = b""
            while not re.search(rb"(^|\n)([ab] |\+|-ERR|\.\r)[^\n]*\n$", text) or command == "CAPA" and not \
                    text.endswith(b"\n.\r\n"):
                got = wire.recv(4000)
                if not got:
                    raise OSError("closed")
                text += got
            lines += text.decode().splitlines()
        return lines

    # -- both servers ----------------------------------------------------------

    def courier(self):
        self.peer.start()
        try:
            return self.probe({name: self.peer_ports()[name] for name in self.ports})
        finally:
            self.peer.stop()

    def peer_ports(self):
        return json.loads((self.peer.dir / "peer.json").read_text())

    def cursus(self, must=True):
        """None, if it does not take these files and need not."""
        mail = proc.new_dir("mail") / "tree"
        shutil.copytree(self.mail, mail)
        one = ByFiles(self.etc, self.ports, mail)
        checked = proc.run([proc.BINARIES / "cursusd", "--check-config", "--config", one.config, "--courier", self.etc],
                           check=must)
        if checked.returncode:
            print(checked.stderr.decode().splitlines()[0])
            return None
        self.servers.append(one)
        one.start()
        try:
            return self.probe(self.ports)
        finally:
            one.stop()

    def check(self, name, variables, shipped):
        self.write(variables)
        # There user1 is another account.
        self.password = OTHER_PASSWORD if "DEFDOMAIN" in variables.get("imapd", ()) else PASSWORD
        theirs = self.courier()
        with self.subTest(effect=name):
            self.assertNotEqual(theirs, shipped, "changes nothing that is asked")
        if mine := self.cursus(must=" without " not in name):
            self.same(name, mine, copy.deepcopy(theirs), variables)
        return theirs

    def same(self, name, mine, theirs, variables):
        # ID is there where the variable is not set, too; and mechanisms that Courier tells with TLS alone are told
        # without, where that is not required.
        if "IMAP_ID_FIELDS" not in variables.get("imapd", ()):
            for one in (mine, theirs):
                one["imap"].pop("ids", None)
        self.assertLessEqual(set(theirs["imap"]["first"]), set(mine["imap"]["first"]), name)
        if " without " in name:
            # The one list of mechanisms has those of other variables.
            self.assertLessEqual(set(theirs["imap"].get("first by tls", ())), set(mine["imap"].get("first by tls", ())))
            for one in (mine, theirs):
                one["imap"].pop("first by tls", None)
                for version, told in one["imap tls"].items():
                    if told != "refused":
                        one["imap tls"][version] = (told[0], [word for word in told[1] if "AUTH" not in word])
        # Mechanisms are one list for IMAP and POP3; where TLS is required, Cursus tells no USER before.
        for key in ("capa", "after"):
            if isinstance(theirs["pop3"].get(key), list):
                sasl = lambda one: {word for word in one["pop3"][key] if word.startswith("SASL")}
                self.assertLessEqual(sasl(theirs), sasl(mine), name)
                for one in (mine, theirs):
                    one["pop3"][key] = [word for word in one["pop3"][key]
                                        if word == "STLS" or word == "USER" and one["pop3"]["login"]]
        for one in (mine, theirs):
            one["imap"]["first"] = [word for word in one["imap"]["first"] if not word.startswith("AUTH=")]
        for what in theirs:
            with self.subTest(set=name, what=what):
                self.assertEqual(mine[what], theirs[what])

    def test_every_variable(self):
        self.write({})
        self.password = PASSWORD
        shipped = self.courier()
        self.same("as shipped", self.cursus(), copy.deepcopy(shipped), {})
        for name, variables in SETS.items():
            whole = self.check(name, variables, shipped)
            for file, variable in [(f, v) for f in variables for v in variables[f]] if ALL else ():
                less = {f: {v: value for v, value in values.items() if (f, v) != (file, variable)}
                        for f, values in variables.items()}
                self.check(f"{name} without {variable} of {file}", less, whole)

    def test_what_is_not_started(self):
        """The switches that Debian's start scripts ask; without any listener left there is no start."""
        switches = {"imap": ("imapd", "IMAPDSTART"), "imaps": ("imapd-ssl", "IMAPDSSLSTART"),
                    "pop3": ("pop3d", "POP3DSTART"), "pop3s": ("pop3d-ssl", "POP3DSSLSTART")}
        for off in (("imap", "pop3s"), ("imaps", "pop3")):
            self.write({switches[name][0]: {switches[name][1]: "NO"} for name in off})
            one = ByFiles(self.etc, self.ports, self.mail)
            self.servers.append(one)
            one.start()
            for name, port in self.ports.items():
                with self.subTest(off=off, port=name):
                    self.assertEqual(proc.is_free(port), name in off)
            one.stop()

    def test_every_honoured_one_is_tried(self):
        text = proc.run([proc.BINARIES / "cursus", "config", "options", "courier"]).stdout.decode()
        honoured = set(re.findall(r"^\| `([^`]+)` \|[^|]*\|[^|]*\| honoured \|", text, re.M))
        self.assertGreater(len(honoured), 40)
        tried = {variable for files in SETS.values() for values in files.values() for variable in values}
        self.assertEqual(honoured - tried - set(ELSEWHERE), set())
        self.assertEqual(set(ELSEWHERE) - honoured, set())


if __name__ == "__main__":
    unittest.main()
