"""Directories, ports, waits and child processes of a test run.

Every child is ended by its own pid, and every wait has an end.
"""

import atexit
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARIES = pathlib.Path(os.environ.get("CURSUS_BIN_DIR", TARGET / "release"))
KEEP = bool(os.environ.get("ACCEPTANCE_KEEP"))

_run_dir = None


def run_dir():
    """The directory below which everything of this run lives; short, as socket paths must be."""
    global _run_dir
    if _run_dir is None:
        base = os.environ.get("ACCEPTANCE_TMP") or tempfile.gettempdir()
        _run_dir = pathlib.Path(tempfile.mkdtemp(prefix="cursus-", dir=base))
        # Postfix and Dovecot drop privileges and must still pass through.
        _run_dir.chmod(0o755)
        if not KEEP:
            atexit.register(shutil.rmtree, _run_dir, ignore_errors=True)
    return _run_dir


_serial = 0


def new_dir(name):
    """A fresh directory with a short unique name."""
    global _serial
    _serial += 1
    path = run_dir() / f"{name}{_serial}"
    path.mkdir(mode=0o755)
    return path


# Below the range that outgoing connections take their ports from. Lanes have a part each: what one of
# them had and will have again may be free for a moment.
PORT_FIRST, PORT_LAST = map(int, os.environ.get("CURSUS_PORTS", "20000-31999").split("-"))
_ports = itertools.cycle(range(PORT_FIRST, PORT_LAST + 1))
# Two runs at one time begin at different places.
_ports = itertools.islice(_ports, os.getpid() * 61 % (PORT_LAST - PORT_FIRST), None)


def is_free(port):
    """Whether nothing listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port():
    """A loopback port that nothing listens on, never the same one twice."""
    return next(port for port in _ports if is_free(port))


def free_base(offsets):
    """A number above which nothing listens on any port that lies so much higher.

    Those ports lie ahead of what `free_port` gave so far.
    """
    return next(base for base in _ports if base + max(offsets) <= PORT_LAST
                and all(is_free(base + offset) for offset in offsets))


def wait_until(check, seconds, what, step=0.02):
    """Calls `check` until it gives something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(step)


def run(argv, *, stdin=None, seconds=60, check=True, env=None, cwd=None, owner=None):
    """Runs a program to its end. With `check`, a non-zero exit is an error that shows its output.

    `owner` is a (uid, gid) to run as, where root may choose.
    """
    if isinstance(stdin, str):
        stdin = stdin.encode()
    extra = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    if owner and owner[0] != os.getuid():
        extra |= {"user": owner[0], "group": owner[1], "extra_groups": []}
    done = subprocess.run(
        [str(a) for a in argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=seconds,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        cwd=cwd,
        **extra,
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, argv))} exited with {done.returncode}\n"
            f"{done.stdout[-3000:].decode('utf-8', 'replace')}\n"
            f"{done.stderr[-3000:].decode('utf-8', 'replace')}"
        )
    return done


def find_program(name):
    """The path of an installed program, or None. Daemons live outside a plain PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin")


class Child:
    """One long-running program whose output goes to a file."""

    def __init__(self, argv, log_path, *, env=None, cwd=None, pass_fds=(), preexec=None):
        self.log_path = pathlib.Path(log_path)
        self._log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            pass_fds=pass_fds,
            preexec_fn=preexec,
        )

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text("utf-8", "replace")

    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def wait(self, seconds):
        return self.process.wait(seconds)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait(10)
        self._log.close()

    def stop(self, seconds=15):
        """SIGTERM, then SIGKILL when that is not heard. Gives the exit status."""
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._log.close()
        return self.process.returncode

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0
