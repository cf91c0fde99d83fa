#!/usr/bin/env python3
"""The first SELECT of a large mailbox: by Courier, Dovecot or Cyrus, whose it is, and by Cursus, which
takes it over; and the next one of each on a new connection. Of Cyrus's also the takeover, the hand-back,
and a hand-back behind a pass of `--watch`. Takes root.

    first_select.py courier|dovecot|cyrus [--messages 100000] [--bytes 3000] [--sizes] [--runs 3]
                                          [--mailboxes 1]

Each run has fresh servers on a fresh tree, with the page cache as the making of the files left it. With
`--mailboxes`, Cyrus's messages are spread over so many. With `--sizes`, names carry `,S=` and `,W=` as most delivery agents write them. CURSUS_BIN_DIR: where cursusd is
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

from harness import proc  # noqa: E402
from harness.alternation import MAIL_UID, PASSWORD, USER, Turn  # noqa: E402
from harness.cyrus_alternation import CyrusTurn  # noqa: E402
from harness.peers import Courier, Cyrus, Dovecot  # noqa: E402


def message(n, size):
    """A letter of about so many bytes."""
    filler = "All work and no play makes Jack a dull boy, said the tests.\n"
    head = (f"From: sender{n % 97} <s{n % 97}@example.org>\nTo: me@example.net\n"
            f"Subject: message {n}\nMessage-ID: <{n}@example.org>\n"
            "Date: Mon, 02 Jan 2006 15:04:05 -0700\n"
            "Content-Type: text/plain; charset=utf-8\n\n")
    return head + filler * max(1, (size - len(head)) // len(filler))


def fill(maildir, count, size, sizes):
    """Messages in `cur/`, as if they had been read."""
    cur = maildir / "cur"
    for sub in ("cur", "new", "tmp"):
        (maildir / sub).mkdir(parents=True, exist_ok=True)
    for n in range(count):
        text = message(n, size)
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


def as_cyrus(program, peer, *arguments):
    done = proc.run(["setpriv", "--reuid=cyrus", "--regid=mail", "--clear-groups",
                     f"/usr/lib/cyrus/bin/{program}", "-C", peer.dir / "imapd.conf", *arguments],
                    seconds=1800)
    return done.stdout.decode()


def fill_cyrus(peer, given):
    """Message files beside Cyrus's own, which `reconstruct` makes an index of."""
    client = imaplib.IMAP4("127.0.0.1", peer.ports["imap"], timeout=600)
    client.login(USER, PASSWORD)
    names = ["INBOX"] + [f"box{n}" for n in range(1, given.mailboxes)]
    for name in names[1:]:
        client.create(name)
    client.logout()
    each = given.messages // given.mailboxes
    inner = [f"user/{USER}" if name == "INBOX" else f"user/{USER}/{name}" for name in names]
    for box, directory in enumerate(as_cyrus("mbpath", peer, *inner).split()):
        for n in range(each):
            with open(f"{directory}/{n + 1}.", "w", newline="\r\n") as out:
                out.write(message(box * each + n, given.bytes))
    subprocess.run(["chown", "-R", "cyrus:mail", peer.dir / "mail"], check=True)
    as_cyrus("reconstruct", peer, "-r", f"user/{USER}")
    return each


def one_cyrus(given):
    peer, times = Cyrus(1), {}

    def timed(what, act):
        began = time.monotonic()
        done = act()
        times[what] = time.monotonic() - began
        return done

    try:
        peer.start()
        each = fill_cyrus(peer, given)
        peer.stop()
        peer.start()
        times["cyrus first"], names = select(peer.ports["imap"], each)
        times["cyrus next"], _ = select(peer.ports["imap"], each)
        peer.stop()
        server = CyrusTurn(peer)
        for turn in ("", ", followed"):
            timed("takeover" + turn, lambda: server.take_over(seconds=1800))
            server.start()
            try:
                times["cursus first" + turn], ours = select(server.ports["imap"], each)
                times["cursus next" + turn], _ = select(server.ports["imap"], each)
                if ours != names:
                    raise AssertionError(f"UIDVALIDITY: {ours}, not {names}")
                # New since, in one mailbox.
                server.deliver(message(0, given.bytes).replace("\n", "\r\n").encode(), USER)
                each += 1
                if turn:
                    follow(server, timed, given)
                    each += 1
            finally:
                server.stop()
            timed("hand-back" + turn, lambda: server.hand_back(seconds=1800))
            subprocess.run(["rm", "-rf", *server.state.glob("handed-back-*")], check=True)
            peer.start()
            times["cyrus first, back" + turn], theirs = select(peer.ports["imap"], each)
            peer.stop()
            if theirs != names:
                raise AssertionError(f"UIDVALIDITY: {theirs}, not {names}")
    finally:
        peer.stop()
        subprocess.run(["rm", "-rf", peer.dir], check=False)
    return times


def follow(server, timed, given):
    """The first pass of `--watch`, and that for one message more."""
    log = server.dir / "watch.log"
    child = proc.Child([*server.launch, proc.BINARIES / "cursus", "--config", server.config, "handback", "cyrus",
                        "--imapd-conf", server.peer.dir / "imapd.conf", "--watch", "--interval", "1"], log)
    try:
        wrote = lambda n: proc.wait_until(lambda: child.log().count(" mailboxes written") >= n, 1800, "a pass")
        timed("watch, all", lambda: wrote(1))
        server.deliver(message(1, given.bytes).replace("\n", "\r\n").encode(), USER)
        timed("watch, one message (1 s apart)", lambda: wrote(2))
    finally:
        child.stop()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("old", choices=["courier", "dovecot", "cyrus"])
    arguments.add_argument("--mailboxes", type=int, default=1)
    arguments.add_argument("--messages", type=int, default=100_000)
    arguments.add_argument("--bytes", type=int, default=3000)
    arguments.add_argument("--sizes", action="store_true")
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--perf", help="profile the first SELECT of Cursus into this file")
    given = arguments.parse_args()
    measure = one_cyrus if given.old == "cyrus" else lambda given: one(given.old, given)
    runs = [measure(given) for _ in range(given.runs)]
    for what in runs[0]:
        seconds = sorted(run[what] for run in runs)
        print(f"{what:30} {statistics.median(seconds):8.3f} s   "
              f"({', '.join(f'{s:.3f}' for s in seconds)})")


if __name__ == "__main__":
    main()
