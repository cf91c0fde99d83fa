"""Stores of other servers under Cursus: fixtures unpacked, taken over, and asked what they hold.

Fixtures and what their own servers answered of them are in engine/foreign/tests/fixtures.
"""

import hashlib
import json
import pathlib
import re
import shutil
import tarfile

from . import proc
from .server import Cursus
from .wire import Imap

FIXTURES = proc.ROOT / "engine" / "foreign" / "tests" / "fixtures"
SHARED_USER = "bb"
USES = {"\\Sent", "\\Drafts", "\\Trash", "\\Junk", "\\Archive", "\\Flagged", "\\Important", "\\All"}


def answers(name):
    """What the store's own server answered."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


class CyrusStore(Cursus):
    """Cursus on the partition of a Cyrus store that it has not taken over yet."""

    tells_ids = True

    def __init__(self, name, separator):
        self.name, self.separator = name, separator
        # Names with a dot or a domain are accounts like others.
        users = ["alice", "bob", "carol", "john.doe", "cyrus", SHARED_USER]
        if "uuid" in name:
            users.append("dave@example.com")
        super().__init__("cyrus", users, extra=(
            f'[auth]\nadmins = ["cyrus"]\n[sharing]\nshared_user = "{SHARED_USER}"\n'
            '[pop3]\nuidl = "cyrus"\n'))

    def write_config(self):
        # The fixture takes the place of the empty spool.
        with tarfile.open(FIXTURES / f"{self.name}.tar.gz") as packed:
            # Debian 12's Python knows no filters yet, later ones want to be told.
            packed.extractall(self.dir, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
        self.root = self.dir / self.name
        self.spool = self.root / "spool"
        self.imapd_conf = self.root / "imapd.conf"
        text = self.imapd_conf.read_text()
        self.imapd_conf.write_text(
            text.replace("@ROOT@", str(self.root)).replace("@RUN@", str(self.dir / "run")))
        super().write_config()

    def config_text(self):
        text = super().config_text()
        head = 'protocol = "imap"\n'
        return text.replace(head, f'{head}names = "internal"\nseparator = "{self.separator}"\n')

    def take_over(self, *options, **more):
        done = self.tool("takeover", "cyrus", "--imapd-conf", self.imapd_conf, *options, **more)
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        return done

    def hand_back(self, **more):
        done = self.tool("handback", "cyrus", "--imapd-conf", self.imapd_conf, **more)
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        return done

    def message_files(self):
        """Paths of all message files with inode, size, time and digest."""
        out = {}
        for path in sorted(self.root.rglob("[0-9]*.")):
            stat = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            out[str(path.relative_to(self.root))] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, digest)
        return out


class OwnStore(CyrusStore):
    """An empty store with an imapd.conf of the test's, which Debian's Cyrus fills, and then Cursus by the same
    file. Passwords are the fixture's."""

    def __init__(self, options, users):
        self.options = options
        super().__init__("cyrus-3.6-uuid", "/" if "unixhierarchysep: yes" in options else ".")
        # Cyrus's, as its file has them.
        self.users, self.added = users, True

    def write_config(self):
        super().write_config()
        for path in (self.root / "lib", self.root / "spool", self.root / "sieve"):
            shutil.rmtree(path)
            path.mkdir()
        text = "".join(line for line in self.imapd_conf.read_text().splitlines(True)
                       if not line.startswith(("unixhierarchysep", "altnamespace", "hashimapspool", "virtdomains",
                                               "defaultdomain", "partition-", "fulldirhash")))
        self.imapd_conf.write_text(f"{text}servername: vm\n{self.options.replace('@ROOT@', str(self.root))}")
        for line in self.options.splitlines():
            if line.startswith(("partition-", "metapartition-")):
                (self.root / line.rpartition("/")[2]).mkdir(exist_ok=True)
        services = "".join(f' {name} cmd="{cmd}" listen="127.0.0.1:{self.ports[name]}"\n'
                           for name, cmd in (("imap", "imapd"), ("pop3", "pop3d"), ("lmtp", "lmtpd -a")))
        self.cyrus_conf = self.dir / "services.conf"
        self.cyrus_conf.write_text(f"SERVICES {{\n{services}}}\n")

    def config_text(self):
        """Only what Cyrus's files cannot say."""
        return (f'state_dir = "{self.state}"\n[sharing]\nshared_user = "{SHARED_USER}"\n[pop3]\nuidl = "cyrus"\n'
                f'[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n')

    def arguments(self):
        return ["--config", self.config, "--imapd-conf", self.imapd_conf, "--cyrus-conf", self.cyrus_conf]

    def tool(self, *arguments, **options):
        # Once for configuration and store, as an administrator does it.
        arguments = [one for one in arguments if one not in ("--imapd-conf", self.imapd_conf)]
        return proc.run([proc.BINARIES / "cursus", *self.arguments(), *arguments], **options)

    def start(self, **_):
        self.child = proc.Child([proc.BINARIES / "cursusd", *self.arguments()], self.log_path)
        self.wait_ready()
        return self

    def imap(self, user="alice", **_):
        return Imap(self.at("imap")).login(user, f"pw-{user.split('@')[0]}")


def text_of(answer):
    return [line.decode("utf-8", "surrogateescape") for line in answer]


def day(date):
    return "0" + date[1:] if date[0] == " " else date


def words(line):
    """Atoms and quoted strings of a line."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s()"]+)', line)
    return [quoted.replace("\\", "") if quoted or not atom else atom for quoted, atom in found]


def alike(answer, user):
    """An answer without what servers may tell otherwise: the order and old letters of rights, how
    octets are rounded, attributes that are no special use."""
    boxes = {}
    for name, box in answer["mailboxes"].items():
        box = dict(box, attrs=sorted(USES & set(box["attrs"])))
        box["quota"] = [(what, most) for what, _, most in box["quota"]]
        box["acl"] = {user if who == "owner" else who: "".join(sorted(re.sub("[cd]", "", rights)))
                      for who, rights in box.get("acl", {}).items()}
        box.get("status", {}).pop("MAILBOXID", None)
        boxes[name] = box
    return {"lsub": answer["lsub"], "mailboxes": boxes}


def ask(one, user, names):
    """What a user is answered about these mailboxes, in the form of the fixtures' answers."""
    with one.imap(user) as client:
        out = {"lsub": sorted(words(line)[-1] for line in text_of(client.ok('LSUB "" "*"'))[:-1])}
        boxes = out["mailboxes"] = {}
        for name in names:
            boxes[name] = mailbox(client, name, one.tells_ids)
    return out


def mailbox(client, name, with_id):
    out = {}
    quoted = '"' + name + '"'
    listed = text_of(client.ok(f'LIST "" {quoted} RETURN (SPECIAL-USE)'))
    found = re.search(r"\(([^)]*)\)", listed[0]) if len(listed) > 1 else None
    out["attrs"] = sorted(found[1].split()) if found else []
    acl = text_of(client.command(f"GETACL {quoted}"))
    if acl[0].startswith("* ACL"):
        pairs = words(acl[0])[3:]
        out["acl"] = dict(zip(pairs[::2], pairs[1::2]))
    quota = text_of(client.command(f"GETQUOTAROOT {quoted}"))
    out["quota"] = [m for line in quota for m in re.findall(r"(STORAGE|MESSAGE) (\d+) (\d+)", line)]
    items = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ" + (" MAILBOXID" if with_id else "")
    status = text_of(client.command(f"STATUS {quoted} ({items})"))
    if not status[0].startswith("* STATUS"):
        return out
    inner = status[0][status[0].rindex("(MESSAGES"):]
    out["status"] = dict(re.findall(r"([A-Z]+) \(?([\w-]+)", inner))
    client.ok(f"EXAMINE {quoted}")
    out["messages"] = {}
    answer = client.command("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ BODY.PEEK[])")
    for one in answer[:-1]:
        if b" FETCH " not in one[:30]:
            continue
        head = re.search(rb"BODY\[\] (?:\{(\d+)\}\r\n|\"([^\"]*)\")", one)
        body = one[head.end():head.end() + int(head[1])] if head[1] else head[2]
        around = (one[:head.start()] + one[head.end() + (len(body) if head[1] else 0):]).decode()
        uid = int(re.search(r"UID (\d+)", around)[1])
        out["messages"][uid] = {
            "flags": sorted(f for f in re.search(r"FLAGS \(([^)]*)\)", around)[1].split() if f != "\\Recent"),
            # Both forms of a day below 10 are RFC 3501's.
            "internaldate": day(re.search(r'INTERNALDATE "([^"]*)"', around)[1]),
            "rfc822.size": int(re.search(r"RFC822.SIZE (\d+)", around)[1]),
            "modseq": int(re.search(r"MODSEQ \((\d+)\)", around)[1]),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    return out




class CyrusServer:
    """Debian's Cyrus on a store's own directories, with its own passwords."""

    # Its STATUS with MAILBOXID has random octets now and then.
    tells_ids = False

    def __init__(self, store):
        self.store, self.root, self.conf = store, store.root, store.imapd_conf
        self.port = proc.free_port()
        self.child = None
        # Further services: name to program.
        self.services, self.ports = {}, {"imap": self.port}

    def serve(self, **services):
        """Has it run these programs, too."""
        self.services = services
        self.ports |= {name: proc.free_port() for name in services}

    def need(self, case):
        """Installs or unpacks the packages, or skips the test."""
        case.need("cyrmaster")
        cache = proc.TARGET / "peers"
        tree = cache / "cyrus-imapd"
        if not (tree / "complete").exists():
            cache.mkdir(parents=True, exist_ok=True)
            script = f". {proc.ROOT}/benches/peers/common; unpacked cyrus-imapd cyrus-pop3d"
            proc.run(["bash", "-c", script], seconds=120, env={"CURSUS_PEERS": str(cache)})
        self.imapd = tree / "usr/lib/cyrus/bin/imapd"

    def own(self, uid="cyrus", gid="mail"):
        """Gives every file to Cyrus's user, as it is on a host of its own."""
        for name in ("proc", "lock", "socket"):
            (self.store.dir / "run" / name).mkdir(parents=True, exist_ok=True)
        proc.run(["chown", "-R", f"{uid}:{gid}", self.root, self.store.dir / "run"])

    def tool(self, *argv, **options):
        """Runs one of Cyrus's programs as its user; gives what it printed."""
        self.own()
        program = f"/usr/lib/cyrus/bin/{argv[0]}"
        done = proc.run(["setpriv", "--reuid", "cyrus", "--regid", "mail", "--clear-groups",
                         program, "-C", self.conf, *argv[1:]], **options)
        return done.stdout.decode() + done.stderr.decode()

    def start(self):
        text = self.conf.read_text()
        if "servername:" not in text:
            # Passwords in the fixtures are those of this realm.
            self.conf.write_text(text + "servername: vm\n")
        installed = pathlib.Path("/usr/lib/cyrus/bin")
        where = lambda cmd: next(tree for tree in (installed, self.imapd.parent) if (tree / cmd.split()[0]).exists())
        more = "".join(f' {name} cmd="{where(cmd) / cmd} -C {self.conf}" listen="127.0.0.1:{self.ports[name]}" '
                       "prefork=0\n" for name, cmd in self.services.items())
        (self.store.dir / "cyrus.conf").write_text(
            f'START {{\n recover cmd="/usr/lib/cyrus/bin/ctl_cyrusdb -C {self.conf} -r"\n}}\n'
            f'SERVICES {{\n imap cmd="{self.imapd} -C {self.conf}" listen="127.0.0.1:{self.port}" prefork=0\n{more}}}\n')
        self.own()
        self.child = proc.Child(
            ["/usr/sbin/cyrmaster", "-C", self.conf, "-M", self.store.dir / "cyrus.conf",
             "-p", self.store.dir / "run" / "master.pid", "-D"], self.store.dir / "cyrus.log")
        proc.wait_until(self.accepts, 20, "Cyrus to accept")

    def accepts(self):
        try:
            Imap(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            return False

    def imap(self, user):
        client = Imap(("127.0.0.1", self.port))
        return client.login(user, f"pw-{user.split('@')[0]}")

    def stop(self):
        if self.child:
            self.child.stop()
            self.child = None
