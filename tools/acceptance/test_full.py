"""A full filesystem: refusals that keep the mail with its sender, and no loss after it."""

from harness import corpus, proc, server
from harness.case import both_layouts

SPOOL_MIB, STATE_MIB = 24, 64
STORE = "[store]\nlog_bytes_max = 16777216\n"


@both_layouts(globals())
class FullDisk:
    def small(self, mebibytes):
        """A small filesystem of the test's own."""
        path = proc.new_dir("full")
        done = proc.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "none", path],
                        check=False)
        if done.returncode:
            self.skipTest("cannot mount a small filesystem: "
                          + done.stderr.decode("utf-8", "replace").strip())
        self.addCleanup(proc.run, ["umount", "-l", path], check=False)
        return path

    def fill_up(self, one):
        """Delivers until it is refused; gives what was acknowledged."""
        acked, refused = [], []
        with one.lmtp(seconds=30) as client:
            for number in range(2000):
                body = b"line of the body\r\n" * 3000
                message = corpus.plain(f"fill {number}", body)
                [(code, text)] = client.deliver([one.address("alice")], message)
                if code == 250:
                    acked.append(b"fill %d" % number)
                else:
                    refused.append((code, text))
                if len(refused) == 5:
                    break
        self.assertTrue(refused, "the filesystem never filled")
        for code, text in refused:
            self.assertTrue(400 <= code < 500, f"a full disk is temporary, but: {code} {text}")
        return acked

    def subjects(self, one):
        with one.imap(seconds=30) as client:
            client.select()
            return sorted(body.partition(b"Subject: ")[2].split(b"\r\n")[0]
                          for body in client.bodies().values())

    def run_on(self, one, make_room):
        acked = self.fill_up(one)
        self.assertGreater(len(acked), 20)
        self.assertEqual(self.subjects(one), sorted(acked))
        with one.imap() as client:
            message = corpus.plain("no room", b"line\r\n" * 20000)
            answer = client.command(b"APPEND INBOX {%d+}\r\n%s" % (len(message), message))
            self.assertIn(b" NO", answer[-1])
            # What frees room must work when there is none.
            client.select()
            client.ok(r"STORE 1:10 +FLAGS.SILENT (\Deleted)")
            client.ok("EXPUNGE")
        acked = acked[10:]
        self.assertEqual(self.subjects(one), sorted(acked))
        one.kill()
        make_room()
        one.start()
        self.assertEqual(self.subjects(one), sorted(acked))
        one.deliver(corpus.plain("after"))
        self.assertEqual(self.subjects(one), sorted([*acked, b"after"]))
        self.assertEqual(one.stop(), 0)
        self.assertEqual(one.tool("check").returncode, 0)

    def test_messages_fill_their_partition(self):
        self.only_cursus()
        one = server.make(self.layout, extra=STORE)
        self.servers.append(one)
        spool = self.small(SPOOL_MIB)
        one.spool = spool
        one.write_config()
        one.start()
        self.run_on(one, lambda: proc.run(["mount", "-o", f"remount,size={SPOOL_MIB + 8}m", spool]))

    def test_messages_and_state_fill_one_filesystem(self):
        self.only_cursus()
        one = server.make(self.layout, extra=STORE)
        self.servers.append(one)
        both = self.small(STATE_MIB)
        one.spool, one.state = both / "spool", both / "state"
        one.spool.mkdir()
        one.state.mkdir()
        one.write_config()
        one.start()
        self.run_on(one, lambda: proc.run(["mount", "-o", f"remount,size={STATE_MIB + 8}m", both]))
