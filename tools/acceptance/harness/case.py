"""The base of every acceptance test: a time limit, a layout, and the server's log on failure."""

import signal
import sys
import unittest

from . import proc, server

TEST_SECONDS = 150


class Case(unittest.TestCase):
    """One test with its own time limit; `self.serve()` starts servers that end with the test."""

    layout = "maildir"
    seconds = TEST_SECONDS
    maxDiff = 4000

    def setUp(self):
        self.servers = []
        self.faults_before = self._faults()
        signal.signal(signal.SIGALRM, self._too_long)
        signal.alarm(self.seconds)
        self.addCleanup(self._end)

    def _too_long(self, *_):
        raise TimeoutError(f"{self.id()} ran longer than {self.seconds} s")

    def _faults(self):
        result = self._outcome.result
        return len(result.failures) + len(result.errors)

    def _end(self):
        signal.alarm(0)
        failed = self._faults() > self.faults_before
        for one in self.servers:
            if one.child:
                one.stop()
            complaints = one.complaints()
            if failed or complaints:
                print(f"---- log of {one.dir.name} ({one.layout}), its end:\n"
                      + one.log()[-5000:] + "\n----", file=sys.stderr)
            if complaints:
                raise AssertionError("the server's log has: " + complaints[0])

    def serve(self, layout=None, **options):
        one = server.make(layout or self.layout, **options)
        self.servers.append(one)
        one.start()
        return one

    def need(self, *programs):
        """Paths of installed programs; skips the test when one is missing."""
        paths = []
        for name in programs:
            path = proc.find_program(name)
            if not path:
                self.skipTest(f"{name} is not installed")
            paths.append(path)
        return paths if len(paths) > 1 else paths[0]

    def only_cursus(self):
        if server.ORACLE != "cursus":
            self.skipTest("about Cursus itself")


def both_layouts(module):
    """Makes each class named `Each…` of a module into one class per layout."""

    def decorate(base):
        layouts = ("maildir",) if server.ORACLE == "dovecot" else server.LAYOUTS
        for layout in layouts:
            name = f"{base.__name__}_{layout}"
            made = type(name, (base, Case), {"layout": layout, "__module__": module["__name__"]})
            module[name] = made
        return base

    return decorate
