#!/usr/bin/env python3
"""Runs a program under a seccomp filter that refuses io_uring, as containers do.

    refuse_ring.py PROGRAM ARGUMENT…
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
# io_uring_setup, _enter and _register have these numbers on every architecture.
FIRST, LAST = 425, 427
EPERM = 1
LOAD_WORD, JUMP_AT_LEAST, JUMP_ABOVE, RETURN = 0x20, 0x35, 0x25, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def main():
    program = b"".join(struct.pack("HBBI", *one) for one in (
        (LOAD_WORD, 0, 0, 0),            # the number of the call
        (JUMP_AT_LEAST, 0, 2, FIRST),
        (JUMP_ABOVE, 1, 0, LAST),
        (RETURN, 0, 0, ERRNO | EPERM),
        (RETURN, 0, 0, ALLOW),
    ))
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8,
                                                      ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
            PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0):
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
