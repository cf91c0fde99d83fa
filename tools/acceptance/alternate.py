#!/usr/bin/env python3
"""Cursus and an old server in turn on one store, with random changes by each; takes root.

    alternate.py courier|dovecot|cyrus [--rounds 25] [--seed 1] [--changes 12]
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

from harness.alternation import Alternation  # noqa: E402
from harness.cyrus_alternation import CyrusAlternation  # noqa: E402

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("old", choices=["courier", "dovecot", "cyrus"])
    arguments.add_argument("--rounds", type=int, default=25)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--changes", type=int, default=12)
    given = arguments.parse_args()
    run = (CyrusAlternation if given.old == "cyrus" else Alternation)(given.old, given.seed)
    try:
        run.run(given.rounds, given.changes, lambda n: print(f"round {n}: same", flush=True))
        if given.old != "cyrus":
            # Clients of Cyrus's follow in each round.
            run.nothing_is_fetched_twice()
        print("mbsync and POP3: nothing twice")
    finally:
        run.stop()
    boxes = run.model.boxes.values()
    print(f"{given.rounds} rounds, {len(run.journal)} changes, "
          f"{sum(len(b['messages']) for b in boxes)} messages in {len(boxes)} mailboxes")
