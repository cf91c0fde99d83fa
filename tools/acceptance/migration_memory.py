#!/usr/bin/env python3
"""How much memory `cursus migrate imap` takes, and the server that the mail comes into: from Debian's
Dovecot, a mailbox of many small messages and one with a large one. Takes root.

    migration_memory.py [--messages 200000] [--bytes 700] [--large 200] [--seconds 3600] [--keep-uids]

Prints the largest resident sizes (VmHWM) after the run of small messages, after that of the large one (MB),
and after a run that finds nothing. CURSUS_BIN_DIR: where the binaries are (target/release).
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

import first_select  # noqa: E402
from harness import proc, server  # noqa: E402
from harness.peers import PASSWORD, Dovecot  # noqa: E402


def high_water(pid):
    """VmHWM in MiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def run(argv, seconds):
    """Does a run; seconds, and its largest resident size in MiB."""
    began = time.monotonic()
    child = subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise AssertionError(f"cursus migrate: exit status {child.returncode}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=700)
    parser.add_argument("--large", type=int, default=200, help="MB")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--keep-uids", action="store_true")
    given = parser.parse_args()
    peer = Dovecot(1, "no")
    here = server.make("maildir", users=("ann",), limits={"message_bytes_max": 1 << 30})
    try:
        peer.start()
        mail = peer.dir / "mail" / "user1"
        large = mail / ".Large"
        first_select.fill(mail, given.messages, given.bytes, False)
        first_select.fill(large, 0, 0, False)
        (mail / "subscriptions").write_text("")
        with open(large / "cur" / "1600000000.M1P1.host:2,", "wb") as out:
            out.write(b"From: a@example.org\nSubject: large\n\n")
            line = b"All work and no play makes Jack a dull boy, as they say.\n"
            for _ in range(given.large * 1_000_000 // (len(line) * 1000)):
                out.write(line * 1000)
        first_select.subprocess.run(["chown", "-R", "mail:mail", mail], check=True)
        here.start()
        users = here.dir / "users.tsv"
        users.write_text(f"user1\t{PASSWORD}\tann\n")
        users.chmod(0o600)
        argv = [proc.BINARIES / "cursus", "--config", here.config, "--json", "migrate", "imap", "--host",
                "localhost", "--port", peer.ports["imap"], "--tls", "none", "--users", users]
        if given.keep_uids:
            argv.append("--keep-uids")
        for what, options in (("small", ["--only", "INBOX"]), ("large", ["--only", "Large"]),
                              ("again", [])):
            took, size = run(argv + options, given.seconds)
            pid = here.child.process.pid
            print(f"{what}: {took:.1f} s, cursus migrate {size:.0f} MiB, cursusd {high_water(pid):.0f} MiB",
                  flush=True)
    finally:
        if here.child:
            here.stop()
        peer.stop()
        subprocess.run(["rm", "-rf", peer.dir], check=False)


if __name__ == "__main__":
    main()
