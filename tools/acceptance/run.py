#!/usr/bin/env python3
"""Runs the acceptance tests, one line each, and closes with the counts.

    run.py [--json FILE] [PATTERN…]     a pattern is part of a test's dotted name
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

# Two at a time: tests wait more than they work. Those beside Courier, Cyrus and Dovecot, whose files are
# laid out once for all of them, are one lane; in each the quick and telling ones come first.
LANES = [
    [
        "test_operation", "test_clients", "test_libraries", "test_sasl", "test_users", "test_sharing", "test_roundcube",
        "test_foreign", "test_fallback", "test_hostile", "test_full", "test_sync", "test_restore", "test_crash",
        "test_mta", "test_postfix", "test_package",
    ],
    [
        "test_inherit", "test_transcripts", "test_takeover", "test_takeover_faults",
        "test_fixtures", "test_hierarchies", "test_courier_variables", "test_cyrus_options",
        "test_commands", "test_commands_databases", "test_commands_looks", "test_maildirsize",
        "test_files", "test_migration", "test_migration_uids", "test_migration_uidls", "test_migration_sources",
        "test_alternation",
    ],
]


# Those of each lane on loopback.
PORTS = ["20000-25999", "26000-31999"]


class Lines(unittest.TestResult):
    """One printed line a test, with its time."""

    def __init__(self):
        super().__init__()
        self.passed = []
        # A class that cannot be set up is told without a test of its being started.
        self.began = time.monotonic()

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def _line(self, word, test, note=""):
        print(f"{word:7} {time.monotonic() - self.began:6.1f} s  {test.id()}{note}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed.append(test.id())
        self._line("ok", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self._line("FAILED", test)
        print(self.failures[-1][1], flush=True)

    def addError(self, test, error):
        super().addError(test, error)
        self._line("ERROR", test)
        print(self.errors[-1][1], flush=True)

    def addSubTest(self, test, subtest, error):
        before = len(self.failures), len(self.errors)
        super().addSubTest(test, subtest, error)
        if error is not None:
            self._line("FAILED", subtest)
            new = self.failures[before[0]:] + self.errors[before[1]:]
            print(new[0][1], flush=True)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line("skipped", test, f": {reason}")


def flatten(suite):
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from flatten(one)
        else:
            yield one


def beside_each_other():
    """Runs every lane in a process of its own; their lines come as they are ready."""
    with tempfile.TemporaryDirectory() as directory:
        told = [pathlib.Path(directory, f"{lane}.json") for lane in range(len(LANES))]
        running = [subprocess.Popen([sys.executable, __file__, "--lane", str(lane), "--json", file],
                                    env={**os.environ, "CURSUS_PORTS": PORTS[lane]})
                   for lane, file in enumerate(told)]
        signal.signal(signal.SIGTERM, lambda *_: [one.terminate() for one in running])
        for one in running:
            one.wait()
        total = {"passed": 0, "failed": 0, "skipped": 0, "reasons": []}
        for lane, file in enumerate(told):
            if not file.exists():
                print(f"lane {lane} ended with status {running[lane].returncode} before it was done")
                return None
            for key, value in json.loads(file.read_text()).items():
                total[key] += value
        return total


def one_after_another(names, patterns):
    loader = unittest.TestLoader()
    tests = [one for name in names for one in flatten(loader.loadTestsFromName(name))]
    if patterns:
        tests = [t for t in tests if any(p in t.id() for p in patterns)]
    if not tests:
        print("no test has such a name")
        return None
    result = Lines()
    unittest.TestSuite(tests).run(result)
    # A test with several failed parts has failed once.
    bad = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
    return {
        "passed": len(result.passed), "failed": len(bad), "skipped": len(result.skipped),
        "reasons": [f"{test.id()}: {reason}" for test, reason in result.skipped],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the counts and the reasons of skips here")
    parser.add_argument("--lane", type=int, choices=range(len(LANES)), help="only these modules")
    parser.add_argument("patterns", nargs="*")
    options = parser.parse_args()

    began = time.monotonic()
    if options.lane is None and not options.patterns:
        total = beside_each_other()
    else:
        lanes = LANES if options.lane is None else [LANES[options.lane]]
        total = one_after_another([name for lane in lanes for name in lane], options.patterns)
    if total is None:
        return 2
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(total))
    print(f"acceptance in {time.monotonic() - began:.0f} s")
    print("acceptance: {passed} passed, {failed} failed, {skipped} skipped".format(**total), flush=True)
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
