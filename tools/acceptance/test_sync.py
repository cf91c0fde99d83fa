"""Syncs that fail: strace makes the kernel answer EIO, and only what rested on that sync is lost."""

import re
import subprocess

from harness import corpus, proc
from harness.case import both_layouts

# No checkpoint but those that are asked for: the failing calls are then known.
STORE = "[store]\ncheckpoint_seconds = 3600\n"
ATTACH_SECONDS = 20


class Failing:
    """strace on a running server: each thread's first calls of some kinds answer EIO."""

    def __init__(self, case, one, calls, times):
        self.argv = [case.need("strace"), "-f", "-p", str(one.child.pid),
                     "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO:when={times}"]
        self.case = case
        self.out = proc.new_dir("strace") / "out"

    def text(self):
        return self.out.read_text("utf-8", "replace")

    def __enter__(self):
        with open(self.out, "wb") as out:
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

        def attached():
            if self.child.poll() is not None:
                self.case.skipTest(f"strace can't attach: {self.text().strip()[-200:]}")
            return "attached" in self.text()

        proc.wait_until(attached, ATTACH_SECONDS, "strace to attach")
        return self

    def __exit__(self, *_):
        # It lets the server go on by itself.
        self.child.terminate()
        self.child.wait(20)

    def injected(self):
        return len(re.findall(r"EIO .*\(INJECTED\)", self.text()))


@both_layouts(globals())
class FailedSync:
    def serve_blocking(self):
        """io_uring's syncs are no system calls of their own, so strace wouldn't see them."""
        self.only_cursus()
        self.need("strace")
        return self.serve(io="blocking", extra=STORE)

    def try_deliver(self, one, name):
        with one.lmtp(seconds=30) as client:
            [(code, text)] = client.deliver([one.address("alice")], corpus.plain(name))
        return code, text

    def subjects(self, one):
        with one.imap(seconds=30) as client:
            client.select()
            return sorted(body.partition(b"Subject: ")[2].split(b"\r\n")[0]
                          for body in client.bodies().values())

    def refuse(self, one, name):
        code, text = self.try_deliver(one, name)
        self.assertTrue(400 <= code < 500, f"{name}: a failed sync is temporary, but: {code} {text}")

    def survives(self, one, expected):
        """A crash and a start find the same; then the store is sound and works."""
        one.kill()
        one.start()
        self.assertEqual(self.subjects(one), sorted(expected))
        one.deliver(corpus.plain("at last"))
        self.assertEqual(self.subjects(one), sorted([*expected, b"at last"]))
        self.assertEqual(one.stop(), 0)
        self.assertEqual(one.tool("check").returncode, 0)

    def test_a_failed_log_write_fails_its_waiters_only(self):
        one = self.serve_blocking()
        one.deliver(corpus.plain("before"))
        with Failing(self, one, "pwritev2", 1) as failing:
            self.refuse(one, "unlucky")
            one.deliver(corpus.plain("next"))
            with one.imap() as client:
                client.append("INBOX", corpus.plain("appended"))
                client.select()
                client.ok(r"STORE 1 +FLAGS (\Seen)")
        self.assertGreater(failing.injected(), 0, failing.text())
        self.assertIn("retiring the segment", one.log())
        self.assertEqual(self.subjects(one), sorted([b"before", b"next", b"appended"]))
        self.survives(one, [b"before", b"next", b"appended"])

    def test_a_failed_sync_of_a_message_fails_that_message_only(self):
        one = self.serve_blocking()
        one.deliver(corpus.plain("before"))
        with Failing(self, one, "fdatasync,fsync", "1+") as failing:
            self.refuse(one, "unlucky")
        self.assertGreater(failing.injected(), 0, failing.text())
        one.deliver(corpus.plain("next"))
        self.assertEqual(self.subjects(one), sorted([b"before", b"next"]))
        self.survives(one, [b"before", b"next"])

    def test_a_failed_sync_of_mailbox_files_makes_the_store_read_only(self):
        one = self.serve_blocking()
        one.deliver(corpus.plain("before"))
        with one.imap() as client:
            client.select()
            client.ok(r"STORE 1 +FLAGS (\Flagged)")
        with Failing(self, one, "syncfs,fsync,fdatasync", "1+") as failing:
            one.tool("checkpoint", check=False, seconds=60)
        self.assertGreater(failing.injected(), 0, failing.text())
        # The next sync would succeed, and prove nothing about the pages that this one dropped.
        self.refuse(one, "while read-only")
        with one.imap() as client:
            answer = client.command(b"APPEND INBOX {12+}\r\nSubject: a\r\n")
            self.assertIn(b" NO", answer[-1])
            client.select()
            self.assertIn(b"\\Flagged", b"".join(client.ok("FETCH 1 FLAGS")))
        self.assertEqual(self.subjects(one), [b"before"])
        self.survives(one, [b"before"])
