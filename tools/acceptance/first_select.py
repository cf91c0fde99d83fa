#!/usr/bin/env python3
"""The first SELECT of a large Maildir: by Courier or Dovecot, whose it is, and by Cursus, which takes it
over; and the next one of each on a new connection. Takes root.

    first_select.py courier|dovecot [--messages 100000] [--bytes 3000] [--sizes] [--runs 3]

Each run has fresh servers on a fresh tree, with the page cache as the making of the files left it. With
`--sizes`, names carry `,S=` and `,W=` as most delivery agents write them. CURSUS_BIN_DIR: where cursusd is
(target/release).
"""

import argparse
import imaplib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

from harness.alternation import MAIL_UID, PASSWORD, USER, Turn  # noqa: E402
from harness.peers import Courier, Dovecot  # noqa: E402


def fill(maildir, count, size, sizes):
    """Messages in `cur/`, as if they had been read."""
    cur = maildir / "cur"
    for sub in ("cur", "new", "tmp"):
        (maildir / sub).mkdir(parents=True, exist_ok=True)
    filler = "All work and no play makes Jack a dull boy, said the tests.\n"
    for n in range(count):
        head = (f"From: sender{n % 97} <s{n % 97}@example.org>\nTo: me@example.net\n"
                f"Subject: message {n}\nMessage-ID: <{n}@example.org>\n"
                "Date: Mon, 02 Jan 2006 15:04:05 -0700\n"
                "Content-Type: text/plain; charset=utf-8\n\n")
        text = head + filler * max(1, (size - len(head)) // len(filler))
        name = f"{1600000000 + n}.M{n}P1.host"
        if sizes:
            name += f",S={len(text)},W={len(text) + text.count(chr(10))}"
        with open(cur / f"{name}:2,S", "w") as out:
            out.write(text)
    subprocess.run(["chown", "-R", f"{MAIL_UID}:{MAIL_UID}", maildir], check=True)


def select(port, count):
    """Seconds from SELECT to its answer, on a new connection."""
    client = imaplib.IMAP4("127.0.0.1", port, timeout=600)
    client.login(USER, PASSWORD)
    began = time.monotonic()
    kind, data = client.select("INBOX")
    took = time.monotonic() - began
    if kind != "OK" or int(data[0]) != count:
        raise AssertionError(f"SELECT: {kind} {data}")
    validity = client.response("UIDVALIDITY")[1]
    client.logout()
    return took, validity


def one(old, given):
    peer = {"courier": Courier, "dovecot": Dovecot}[old](1, "no")
    times = {}
    try:
        peer.start()
        told = json.loads((peer.dir / "peer.json").read_text())["maildir"]
        maildir = pathlib.Path(told.replace("{user}", USER))
        fill(maildir, given.messages, given.bytes, given.sizes)
        times[f"{old} first"], names = select(peer.ports["imap"], given.messages)
        times[f"{old} next"], _ = select(peer.ports["imap"], given.messages)
        peer.stop()
        server = Turn(told, old)
        server.start()
        try:
            if given.perf:
                pid = server.child.process.pid
                perf = subprocess.Popen(["perf", "record", "-F", "499", "-g", "-o", given.perf, "-p", str(pid)],
                                        stderr=subprocess.DEVNULL)
                time.sleep(0.5)
            times["cursus first"], ours = select(server.ports["imap"], given.messages)
            if given.perf:
                perf.send_signal(2)
                perf.wait()
            times["cursus next"], _ = select(server.ports["imap"], given.messages)
        finally:
            server.stop()
        if ours != names:
            raise AssertionError(f"UIDVALIDITY: {ours}, not {names}")
    finally:
        peer.stop()
        subprocess.run(["rm", "-rf", peer.dir], check=False)
    return times


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("old", choices=["courier", "dovecot"])
    arguments.add_argument("--messages", type=int, default=100_000)
    arguments.add_argument("--bytes", type=int, default=3000)
    arguments.add_argument("--sizes", action="store_true")
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--perf", help="profile the first SELECT of Cursus into this file")
    given = arguments.parse_args()
    runs = [one(given.old, given) for _ in range(given.runs)]
    for what in runs[0]:
        seconds = sorted(run[what] for run in runs)
        print(f"{what:16} {statistics.median(seconds):8.3f} s   "
              f"({', '.join(f'{s:.3f}' for s in seconds)})")


if __name__ == "__main__":
    main()
