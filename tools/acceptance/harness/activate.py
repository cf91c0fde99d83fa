#!/usr/bin/env python3
"""Starts a program with listening sockets as systemd does.

    activate.py NAME=FD,… PROGRAM ARGUMENT…      (see sd_listen_fds(3))
"""

import os
import sys

FIRST = 3


def main():
    pairs = [one.split("=") for one in sys.argv[1].split(",")]
    # Out of the way first, so that no target overwrites a source.
    high = [os.dup(int(fd)) for _, fd in pairs]
    spare = [os.dup2(fd, 100 + at) for at, fd in enumerate(high)]
    for at, fd in enumerate(spare):
        os.dup2(fd, FIRST + at, inheritable=True)
    os.closerange(FIRST + len(pairs), 256)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(pairs))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in pairs)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
