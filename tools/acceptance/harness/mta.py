"""Mail transports as docs/mta.md has them: the blocks of that page, with directories, ports and the
system's user of the run put in.
"""

import os
import pathlib
import pwd
import re
import subprocess

from . import postfix, proc, server

PAGE = proc.ROOT / "docs" / "mta.md"
# The system's user that has the mail: `vmail`, uid 5000, on that page.
OWNER = "mail"


def block(case, name):
    """The block of the page that is marked `case: name`."""
    found = re.findall(rf"<!-- {case}: {re.escape(name)} -->\n```\w*\n(.*?)```",
                       PAGE.read_text(), re.S)
    if len(found) != 1:
        raise AssertionError(f"docs/mta.md has {len(found)} blocks {case}: {name}")
    return found[0]


class Documented(server.Cursus):
    """cursusd as the page configures it."""

    def __init__(self, more="", case=None, users=("jo@example.org", "full@example.org",
                                                  "jane@example.org")):
        self.more, self.case = more, case
        super().__init__("maildir", users)
        self.spool = self.dir / "vmail"
        self.spool.mkdir()
        self.auth_socket = self.dir / "auth.sock"
        self.write_config()

    def here(self, text):
        """A text of the page with this run's places."""
        for theirs, ours in {
            "/var/lib/cursus": self.state, "/var/vmail": self.spool, "/run/cursus": self.dir,
            '"/home"': f'"{self.spool}"',
            "/etc/cursus/cursus.toml": self.config, "/usr/bin/cursus": proc.BINARIES / "cursus",
            "127.0.0.1:24": "127.0.0.1:%d" % self.ports["lmtp"],
            "127.0.0.1:143": "127.0.0.1:%d" % self.ports["imap"],
            "/etc/ssl/mail.pem": self.certificate, "/etc/ssl/mail.key": self.key,
            "static:5000": f"static:{pwd.getpwnam(OWNER).pw_uid}", "user = vmail\n": f"user = {OWNER}\n",
            "user=vmail ": f"user={OWNER} ",
        }.items():
            text = text.replace(theirs, str(ours))
        return text

    def config_text(self):
        text = block("all", "cursus.toml")
        if self.case:
            # The partition's place is said by the case's own lines.
            place = block("all", "cursus.toml").split("name = \"default\"\n")[1].split("\n\n")[0]
            text = text.replace(place, block(self.case, "cursus.toml").rstrip())
        text = self.here(text)
        return (f'{text}[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n'
                f"[auth]\nfailure_delay_first_seconds = 0\n{self.more}")

    def add_users(self):
        super().add_users()
        if "full@example.org" not in self.users:
            return
        self.tool("user", "remove", "full@example.org")
        self.tool("user", "add", "full@example.org", "--attributes", "quota_bytes=2K",
                  stdin=server.PASSWORD + "\n")

    def wait_ready(self):
        super().wait_ready()
        if hasattr(self, "auth_socket") and self.auth_socket.exists():
            self.auth_socket.chmod(0o666)

    def bodies(self, user="jo@example.org"):
        """What the INBOX of a user has."""
        with self.imap(user) as client:
            client.select()
            return list(client.bodies().values())


class Postfix(postfix.Postfix):
    """Debian's Postfix with the page's settings behind those that the run needs."""

    def __init__(self, one, case):
        super().__init__({"nowhere.test": "error:none"})
        self.one = one
        text = self.config / "main.cf"
        # What main.cf has twice, the last one counts, and Postfix says so in its log.
        lines = one.here(block("postfix", "main.cf") + block(f"postfix-{case}", "main.cf"))
        lines = lines.replace("/etc/postfix/", f"{self.config}/")
        names = {line.split("=")[0].strip() for line in lines.splitlines() if "=" in line}
        base = "".join(line + "\n" for line in text.read_text().splitlines()
                       if line.split("=")[0].strip() not in names
                       and not line.startswith("transport_maps"))
        text.write_text(f"{base}{lines}\n")
        more = ["virtual unix - n n - - virtual", "local unix - n n - - local",
                "tlsmgr unix - - n 1000? 1 tlsmgr"]
        if case == "pipe":
            more.append(one.here(block("postfix-pipe", "master.cf")))
        with open(self.config / "master.cf", "a") as master:
            master.write("\n".join(more) + "\n")
        if case == "virtual":
            (self.config / "vmailbox").write_text(block("postfix-virtual", "vmailbox"))

    def start_with_user(self, name, home):
        """As `start`, in a view of the system in which there is such a user."""
        (self.dir / "passwd").write_text(
            pathlib.Path("/etc/passwd").read_text()
            + f"{name}:x:{pwd.getpwnam(OWNER).pw_uid}:{pwd.getpwnam(OWNER).pw_gid}::{home}:/bin/sh\n")
        proc.run(["/usr/sbin/postfix", "-c", self.config, "check"], seconds=60)
        script = (f"set -e; mount --bind {self.dir}/passwd /etc/passwd;"
                  f"exec /usr/lib/postfix/sbin/master -c {self.config} -d")
        self.child = proc.Child(["unshare", "-m", "sh", "-c", script], self.dir / "master.log")

        def listening():
            with proc.socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        proc.wait_until(listening, 20, "Postfix to listen")

    def flush(self):
        proc.run(["/usr/sbin/postqueue", "-c", self.config, "-f"], check=False)


class Exim:
    """Debian's Exim, unpacked: it and Postfix can't both be installed."""

    packages = ("exim4-daemon-heavy",)

    def __init__(self, one, transport):
        self.one, self.dir, self.port = one, proc.new_dir("ex"), proc.free_port()
        self.root = self.unpacked()
        self.config = self.dir / "exim4.conf"
        text = one.here(block("exim", "exim4.conf"))
        text = text.replace("CURSUS = cursus_lmtp", f"CURSUS = {transport}")
        text = text.replace("daemon_smtp_ports = 25", f"daemon_smtp_ports = {self.port}")
        spool = self.dir / "spool"
        spool.mkdir()
        self.log_path = self.dir / "mainlog"
        self.config.write_text(
            f"spool_directory = {spool}\nlog_file_path = {self.dir}/%slog\n"
            f"pid_file_path = {self.dir}/exim.pid\nexim_path = {self.root}/usr/sbin/exim4\n"
            f"{text.replace('F,4d,5m', 'F,4d,1s')}")
        self.spool = spool
        self.child = None

    @classmethod
    def unpacked(cls):
        """Where its files are; raises unittest's skip where they can't be had."""
        import unittest
        root = proc.TARGET / "peers" / "exim"
        if not (root / "usr/sbin/exim4").exists():
            root.mkdir(parents=True, exist_ok=True)
            for package in cls.packages:
                done = proc.run(["apt-get", "download", package], cwd=root, check=False, seconds=60)
                debs = list(root.glob(f"{package}_*.deb"))
                if done.returncode or not debs:
                    raise unittest.SkipTest(f"{package} can't be downloaded")
                proc.run(["dpkg-deb", "-x", debs[0], root])
        libraries = proc.run(["ldd", root / "usr/sbin/exim4"]).stdout
        if b"not found" in libraries:
            raise unittest.SkipTest("Exim's libraries are not installed: libspf2-2 libmariadb3")
        if proc.run(["unshare", "-m", "true"], check=False).returncode:
            raise unittest.SkipTest("no right to mount")
        return root

    def start(self):
        # Exim looks for its user, and trusts a configuration at one place alone: it gets its own view
        # of /etc.
        os.chown(self.one.key, -1, 990)
        self.one.key.chmod(0o640)
        os.chown(self.spool, 990, 990)
        os.chown(self.dir, 990, 990)
        etc = self.dir / "etc"
        script = (f"set -e; cp -a /etc {etc}; mkdir -p {etc}/exim4;"
                  f"cp {self.config} {etc}/exim4/exim4.conf;"
                  f"grep -q ^Debian-exim: {etc}/passwd ||"
                  f" echo 'Debian-exim:x:990:990::/:/bin/false' >> {etc}/passwd;"
                  f"grep -q ^Debian-exim: {etc}/group || echo 'Debian-exim:x:990:' >> {etc}/group;"
                  f"mount --bind {etc} /etc; exec {self.root}/usr/sbin/exim4 -bdf -q1s")
        self.child = proc.Child(["setsid", "unshare", "-m", "sh", "-c", script], self.dir / "stderr")

        def listening():
            if not self.child.alive():
                raise AssertionError("Exim ended:\n" + (self.dir / "stderr").read_text() + self.log())
            with proc.socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        proc.wait_until(listening, 20, "Exim to listen")
        return self

    def log(self):
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def queued(self):
        return sum(1 for _ in (self.spool / "input").rglob("*-H"))

    def flush(self):
        pass

    def stop(self):
        self.child.stop()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def shell(command, *, stdin, env, cwd=None):
    """As qmail-local and procmail run a command: by sh."""
    done = subprocess.run(["/bin/sh", "-c", command], input=stdin, env=env, cwd=cwd,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return done.returncode, done.stderr.decode("utf-8", "replace")
