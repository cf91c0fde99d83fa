#!/usr/bin/env python3
"""Runs the acceptance tests, one line each, and closes with the counts.

    run.py [--json FILE] [PATTERN…]     a pattern is part of a test's dotted name
"""

import argparse
import json
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

# The quick and telling ones first.
MODULES = [
    "test_operation", "test_inherit", "test_clients", "test_libraries", "test_sasl", "test_users", "test_mta", "test_sharing",
    "test_transcripts", "test_roundcube", "test_postfix", "test_foreign", "test_fallback",
    "test_hostile", "test_full", "test_sync", "test_restore", "test_takeover", "test_takeover_faults", "test_fixtures", "test_hierarchies",
    "test_courier_variables", "test_cyrus_options", "test_commands", "test_commands_databases", "test_commands_looks", "test_package",
    "test_maildirsize",
    "test_files", "test_migration", "test_migration_uids", "test_migration_uidls", "test_migration_sources", "test_alternation", "test_crash",
]


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the counts and the reasons of skips here")
    parser.add_argument("patterns", nargs="*")
    options = parser.parse_args()

    loader = unittest.TestLoader()
    tests = [one for name in MODULES for one in flatten(loader.loadTestsFromName(name))]
    if options.patterns:
        tests = [t for t in tests if any(p in t.id() for p in options.patterns)]
    if not tests:
        print("no test has such a name")
        return 2

    result = Lines()
    began = time.monotonic()
    unittest.TestSuite(tests).run(result)
    # A test with several failed parts has failed once.
    bad = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
    failed = len(bad)
    passed = len([name for name in result.passed])
    skipped = len(result.skipped)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({
            "passed": passed, "failed": failed, "skipped": skipped,
            "reasons": [f"{test.id()}: {reason}" for test, reason in result.skipped],
        }))
    print(f"acceptance in {time.monotonic() - began:.0f} s")
    print(f"acceptance: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
