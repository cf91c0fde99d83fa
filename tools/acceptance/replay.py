#!/usr/bin/env python3
"""Replays transcripts by hand, to write and to judge them.

    replay.py SERVER [TRANSCRIPT…]    what this server answers otherwise, and the marks that are off;
                                      SERVER is maildir, cyrus-layout, dovecot, cyrus, courier,
                                      maildir-trash, courier-trash or maildir-limit
    replay.py --table                 the section of docs/protocols.md about other servers
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

from harness import oracle, peers, transcript  # noqa: E402


def site(name, users):
    variant = next((one for one in ("trash", "limit") if name.endswith(f"-{one}")), "")
    name = name.removesuffix(f"-{variant}")
    if name in ("maildir", "cyrus-layout"):
        return peers.CursusSite(name.removesuffix("-layout"), users, variant)
    return next(kind for kind in peers.PEERS if kind.name == name)(users, variant)


def main():
    if sys.argv[1:] == ["--table"]:
        print(oracle.section(transcript.all_transcripts()), end="")
        return
    scripts = transcript.all_transcripts()
    with_site = site(sys.argv[1], 2 * len(scripts))
    with_site.start()
    try:
        offered = oracle.offered(with_site)
        print(with_site.name, "announces", *sorted(offered))
        for number, script in enumerate(scripts):
            if script.heads.get("with", "") != with_site.variant:
                continue
            if sys.argv[2:] and script.name not in sys.argv[2:]:
                continue
            began = time.monotonic()
            faults = oracle.faults(script, with_site, number, offered, show_marked=True)
            print(f"== {script.name} {time.monotonic() - began:.2f} s", *faults, sep="\n")
    finally:
        with_site.stop()


if __name__ == "__main__":
    main()
