"""Users as the servers before us had them: Courier's authdaemond, Cyrus SASL's saslauthd.

Both run with their files below the test's directory. authdaemond's configuration has a fixed place,
so it runs in a mount namespace of its own where that place is ours.
"""

import os
import pathlib
import socket

from . import proc

AUTHDAEMOND = pathlib.Path("/usr/lib/courier/courier-authlib/authdaemond")


def make_userdb(path):
    """`makeuserdb` of the text at `path`."""
    path.chmod(0o600)
    proc.run([proc.find_program("makeuserdb"), "-f", path])


class Authdaemon:
    """Debian's authdaemond with a userdb of the test's."""

    def __init__(self, userdb):
        self.dir = proc.new_dir("ad")
        self.etc, self.run = self.dir / "etc", self.dir / "run"
        self.etc.mkdir()
        self.run.mkdir()
        self.run.chmod(0o777)
        (self.etc / "authdaemonrc").write_text(
            'authmodulelist="authuserdb"\nauthmodulelistorig="authuserdb"\ndaemons=3\n'
            "authdaemonvar=/run/courier/authdaemon\nDEBUG_LOGIN=0\nDEFAULTOPTIONS=\"\"\n")
        (self.etc / "userdb").write_text(userdb)
        (self.etc / "userdb").chmod(0o600)
        self.socket = self.run / "socket"
        self.child = None

    @staticmethod
    def can_run():
        probe = proc.run(["unshare", "-m", "true"], check=False)
        places = AUTHDAEMOND, pathlib.Path("/run/courier/authdaemon"), pathlib.Path("/etc/courier")
        return all(place.exists() for place in places) and probe.returncode == 0

    def start(self):
        script = ("set -e; mkdir -p /run/courier/authdaemon;"
                  f"mount --bind {self.etc} /etc/courier;"
                  f"mount --bind {self.run} /run/courier/authdaemon;"
                  f"makeuserdb; exec {AUTHDAEMOND}")
        self.child = proc.Child(["unshare", "-m", "sh", "-c", script], self.dir / "log")
        proc.wait_until(lambda: answers(self.socket), 10, "authdaemond")
        return self

    def stop(self):
        self.child.stop()
        # Its children hold the socket for a moment; a name without a listener is what counts.
        self.socket.unlink(missing_ok=True)


class Saslauthd:
    """Debian's saslauthd over a sasldb of the test's, which it would look for in /etc."""

    def __init__(self):
        self.dir = proc.new_dir("sd")
        self.socket = self.dir / "mux"
        self.child = None

    @staticmethod
    def can_run():
        return os.path.exists("/etc/sasldb2") and proc.run(["unshare", "-m", "true"],
                                                           check=False).returncode == 0

    def start(self, sasldb):
        script = (f"set -e; mount --bind {sasldb} /etc/sasldb2;"
                  f"exec {proc.find_program('saslauthd')} -d -a sasldb -n 2 -m {self.dir}")
        # It ends with a signal to its whole group, which is not to be the test's.
        self.child = proc.Child(["setsid", "unshare", "-m", "sh", "-c", script], self.dir / "log")
        proc.wait_until(lambda: answers(self.socket), 10, "saslauthd")
        return self

    def stop(self):
        self.child.stop()
        self.socket.unlink(missing_ok=True)


def make_sasldb(path, users):
    """`users` is (name, realm, password) each."""
    for name, realm, password in users:
        proc.run([proc.find_program("saslpasswd2"), "-p", "-c", "-f", path, "-u", realm, name],
                 stdin=password)
    return path


def answers(path):
    """Whether somebody listens on that unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0

