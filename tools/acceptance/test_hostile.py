"""Input that is cut, oversized, nested, garbled or slow: a polite answer, and the server lives."""

import base64
import concurrent.futures
import random
import re
import resource
import select
import socket
import struct
import time

from harness import corpus, proc
from harness.case import both_layouts, Case
from harness.server import PASSWORD
from harness.wire import Closed, Imap, Lmtp, Pop3, Wire

MIB = 1 << 20
WORKERS = 12
SPLIT_PAUSE_SECONDS = 0.012
SLOW_CONNECTIONS = 2000
SLOW_SECONDS = 12
# A waiting line or literal may hold a small buffer per connection, never more.
SLOW_BYTES_PER_CONNECTION_MAX = 32 * 1024

MESSAGE = (b"From: a@example.net\r\nTo: alice@example.org\r\nSubject: split\r\n"
           b"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n..dots\r\n.\rx\r\nend\r\n")


def talk(address, pieces, seconds=20):
    """Waits for the greeting, sends pieces with a pause between them, reads to the end."""
    wire = Wire(address, seconds=seconds)
    try:
        wire.line()
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(SPLIT_PAUSE_SECONDS)
            wire.send(piece)
        return wire.rest()
    finally:
        wire.close()


class Split(Case):
    """The same bytes, cut at every place, get the same answers."""

    def everywhere(self, script, address, normal, workers=WORKERS):
        """`script(n)` is the session's text for its n-th run; n keeps runs apart."""
        want = normal(0, talk(address, [script(0)]))
        length = len(script(1))

        def one(cut):
            text = script(cut)
            pieces = [text[:cut], text[cut:]]
            if cut == length:
                # All at once was the reference; the last run sends byte by byte.
                pieces = [text[n : n + 1] for n in range(length)]
            return cut, normal(cut, talk(address, pieces, seconds=40))

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for cut, got in pool.map(one, range(1, length + 1)):
                if got != want:
                    self.fail(f"cut at {cut} of {length}, after {script(cut)[:cut][-40:]!r}:\n"
                              f"{got!r}\ninstead of\n{want!r}")
        return want

    def test_imap(self):
        one = self.serve()

        def script(n):
            return (
                b'a LOGIN alice "%s"\r\nb CREATE box%04d\r\nc APPEND "box%04d" (\\Seen) {%d+}\r\n%s\r\n'
                b"d SELECT {7+}\r\nbox%04d\r\n"
                b"e UID FETCH 1:* (FLAGS RFC822.SIZE ENVELOPE BODY.PEEK[]<0.20>)\r\n"
                b"f STORE 1 +FLAGS (\\Flagged $X)\r\ng SEARCH FLAGGED SUBJECT \"split\"\r\nh BOGUS\r\n"
                b"i IDLE\r\nDONE\r\nj CLOSE\r\nk DELETE box%04d\r\nl LOGOUT\r\n"
            ) % (PASSWORD.encode(), n, n, len(MESSAGE), MESSAGE, n, n)

        def normal(n, text):
            text = text.replace(b"box%04d" % n, b"box")
            text = re.sub(rb"(UIDVALIDITY|APPENDUID|MODSEQ|HIGHESTMODSEQ|MAILBOXID)[ (]+\w+", rb"\1", text)
            text = re.sub(rb"(OK Logged in|session)[^\r]*", rb"\1", text)
            return re.sub(rb" \([\d. +]+secs\)", b"", text)

        want = self.everywhere(script, one.at("imap"), normal)
        for tag in b"abcdefgijkl":
            self.assertIn(b"\r\n%c OK" % tag, b"\r\n" + want)
        self.assertIn(b"\r\nh BAD", want)

    def test_pop3(self):
        users = [f"user{n}" for n in range(WORKERS)]
        one = self.serve(users=users)
        for user in users:
            one.deliver(MESSAGE, user)
        free = list(users)

        def script(_):
            return (b"CAPA\r\nUSER @@@@\r\nPASS %s\r\nSTAT\r\nLIST\r\nUIDL 1\r\nRETR 1\r\nTOP 1 0\r\n"
                    b"DELE 1\r\nDELE 1\r\nRSET\r\nNOOP\r\nWHAT\r\nQUIT\r\n") % PASSWORD.encode()

        def with_user(n):
            return script(n)

        # A POP3 session holds its maildrop alone, so each worker has a user of its own.
        def normal(_, text):
            text = re.sub(rb"(Return-Path|Delivered-To|Received|X-Original-To):[^\r]*\r\n(?:[ \t][^\r]*\r\n)*", b"", text)
            return re.sub(rb"\+OK 1 \w{8,}\S*|user\d+|\b\d{3,4}\b|\+OK \d+ octets", b"", text)

        want = None
        text = with_user(0)
        length = len(text)

        def run(cut):
            user = free.pop()
            try:
                own = text.replace(b"@@@@", user.encode())
                shift = len(own) - length
                at = min(cut + shift, len(own)) if cut > text.index(b"@@@@") else cut
                return cut, normal(cut, talk(one.at("pop3"), [own[:at], own[at:]]))
            finally:
                free.append(user)

        with concurrent.futures.ThreadPoolExecutor(WORKERS - 1) as pool:
            for cut, got in pool.map(run, range(length)):
                want = got if want is None else want
                self.assertEqual(got, want, f"cut at {cut}, after {text[:cut][-30:]!r}")
        self.assertIn(b"end\r\n.\r\n", want)
        self.assertEqual(want.count(b"-ERR"), 2, want)

    def test_lmtp(self):
        one = self.serve()

        def script(_):
            stuffed = MESSAGE.replace(b"\r\n.", b"\r\n..")
            return (b"LHLO x\r\nMAIL FROM:<a@example.net> BODY=8BITMIME\r\n"
                    b"RCPT TO:<alice@example.org>\r\nRCPT TO:<nobody@example.org>\r\n"
                    b"RCPT TO:<bob@example.org>\r\nDATA\r\n" + stuffed + b".\r\n"
                    b"RSET\r\nWHAT\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n"
                    b"BDAT 20\r\n" + MESSAGE[:20] + b"BDAT %d LAST\r\n" % (len(MESSAGE) - 20)
                    + MESSAGE[20:] + b"QUIT\r\n")

        def normal(_, text):
            # Replies may name the delivery; codes and features tell the outcome.
            lines = text.split(b"\r\n")
            return [re.match(rb"\d{3}[- ](?:\d\.\d+\.\d+)?", l)[0] for l in lines if l]

        self.everywhere(script, one.at("lmtp"), normal)
        runs = len(script(0)) + 1
        for user, each in (("alice", 2), ("bob", 1)):
            with one.imap(user) as client:
                client.select()
                bodies = client.bodies()
            self.assertEqual(len(bodies), each * runs)
            self.assertTrue(all(b.endswith(MESSAGE) for b in bodies.values()),
                            "a message was changed by where its bytes were cut")


DEEP = 20_000

# After LOGIN and SELECT. Each must be answered with BAD, NO or BYE, or the connection closed.
IMAP_REFUSED = {
    "unknown command": b"x FROBNICATE\r\n",
    "no command": b"x\r\n",
    "empty tag": b" NOOP\r\n",
    "plus as tag": b"+ NOOP\r\n",
    "endless line": b"x " + b"A" * (2 * MIB),
    "endless quoted string": b'x SELECT "' + b"A" * (2 * MIB) + b'"\r\n',
    "endless tag": b"A" * 100_000 + b" NOOP\r\n",
    "literal past 32 bits": b"x SELECT {4294967296}\r\n",
    "literal past 64 bits": b"x SELECT {18446744073709551617}\r\n",
    "literal with sign": b"x SELECT {-1}\r\n",
    "literal of a gigabyte as name": b"x SELECT {1000000000}\r\n",
    "append of a terabyte": b"x APPEND INBOX {1000000000000}\r\n",
    "append of a terabyte without waiting": b"x APPEND INBOX {1000000000000+}\r\nFrom: x\r\n",
    "nested search": b"x SEARCH " + b"(" * DEEP + b"ALL" + b")" * DEEP + b"\r\n",
    "not not search": b"x SEARCH " + b"NOT " * DEEP + b"ALL\r\n",
    "or or search": b"x SEARCH " + b"OR ALL " * DEEP + b"ALL ALL\r\n",
    "open parentheses": b"x FETCH 1 " + b"(" * DEEP + b"\r\n",
    "deep section": b"x FETCH 1 BODY[" + b".".join([b"1"] * DEEP) + b".TEXTS]\r\n",
    "section zero": b"x FETCH 1 BODY[0]\r\n",
    "bad section": b"x FETCH 1 BODY[MIME]\r\n",
    "huge partial": b"x FETCH 1 BODY[]<0.99999999999999999999>\r\n",
    "empty partial": b"x FETCH 1 BODY[]<0.0>\r\n",
    "sequence zero": b"x FETCH 0 FLAGS\r\n",
    "sequence past 32 bits": b"x FETCH 4294967296 FLAGS\r\n",
    "sequence that is none": b"x FETCH 1:2:3 FLAGS\r\n",
    "store of no flag": b"x STORE 1 FLAGS (\\)\r\n",
    "unknown system flag in parentheses": b"x STORE 1 FLAGS (\\Seen\r\n",
    "unknown charset": b"x SEARCH CHARSET X-NONE SUBJECT a\r\n",
    "bad date": b"x SEARCH SINCE 99-Foo-20x6\r\n",
    "append with bad date": b'x APPEND INBOX "32-Foo-2026 99:99:99 +9999" {3+}\r\nabc\r\n',
    "lone ampersand": b'x CREATE "&"\r\n',
    "unended shift": b'x CREATE "&AAA"\r\n',
    "bad base64 in name": b'x CREATE "&!!!-"\r\n',
    "lone surrogate in name": b'x CREATE "&2AA-"\r\n',
    "needless shift": b'x CREATE "&AGE-"\r\n',
    "NUL in command": b"x NO\0OP\r\n",
    "NUL in string": b'x CREATE "a\0b"\r\n',
    "bare CR in string": b'x CREATE "a\rb"\r\n',
    "eight bits in an atom": b"x CREATE \xff\xfe\xfd\r\n",
    "eight bits in a string": b'x CREATE "\xff\xfe\xfd"\r\n',
    "name that climbs": b'x CREATE "../../../escaped"\r\n',
    "name with an empty level": b'x CREATE "a//b"\r\n',
    "name of 5,000 bytes": b'x CREATE "' + b"n" * 5000 + b'"\r\n',
    "second login": b"x LOGIN bob wrong\r\n",
    "missing argument": b"x COPY 1\r\n",
    "trailing text": b"x NOOP and more\r\n",
    "binary": bytes(range(128, 256)) * 4 + b"\r\n",
}

IMAP_UNAUTHENTICATED = {
    "bad base64": b"x AUTHENTICATE PLAIN\r\n!!!!\r\n",
    "bad initial response": b"x AUTHENTICATE PLAIN %%%%\r\n",
    "cancelled": b"x AUTHENTICATE PLAIN\r\n*\r\n",
    "no NULs inside": b"x AUTHENTICATE PLAIN " + base64.b64encode(b"alice") + b"\r\n",
    "endless response": b"x AUTHENTICATE PLAIN\r\n" + b"QUJD" * 500_000 + b"\r\n",
    "unknown mechanism": b"x AUTHENTICATE X-NONE\r\n",
    "bad SCRAM first": b"x AUTHENTICATE SCRAM-SHA-256 " + base64.b64encode(b"y,,x") + b"\r\n",
    "select before login": b"x SELECT INBOX\r\n",
    "long user": b"x LOGIN " + b"u" * 100_000 + b" p\r\n",
    "user that climbs": b'x LOGIN "../../etc" p\r\n',
    "literal before login": b"x LOGIN {1000000000}\r\n",
    "big literal without waiting": b"x LOGIN {1000000000+}\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS hello on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500 + b"\r\n",
}

POP3_REFUSED = {
    "unknown": b"FROB\r\n",
    "long line": b"A" * (2 * MIB) + b"\r\n",
    "huge number": b"RETR 99999999999999999999\r\n",
    "zero": b"RETR 0\r\n",
    "negative": b"DELE -1\r\n",
    "top without lines": b"TOP 1\r\n",
    "past the end": b"LIST 4294967295\r\n",
    "words": b"RETR one\r\n",
    "binary": bytes(range(128, 256)) * 4 + b"\r\n",
    "NUL": b"RETR 1\0\r\n",
}

LMTP_REFUSED = {
    "mail before LHLO": (b"", b"MAIL FROM:<a@b>\r\n"),
    "HELO": (b"", b"HELO x\r\n"),
    "data before recipients": (b"LHLO x\r\nMAIL FROM:<a@b>\r\n", b"DATA\r\n"),
    "unknown user": (b"LHLO x\r\nMAIL FROM:<a@b>\r\n", b"RCPT TO:<nobody@example.org>\r\n"),
    "no brackets": (b"LHLO x\r\n", b"MAIL FROM:a b\r\n"),
    "long line": (b"LHLO x\r\n", b"MAIL FROM:<" + b"a" * (2 * MIB) + b">\r\n"),
    "endless path": (b"LHLO x\r\nMAIL FROM:<a@b>\r\n", b"RCPT TO:<" + b"a" * 5000 + b"@b>\r\n"),
    "announced too large": (b"LHLO x\r\n", b"MAIL FROM:<a@b> SIZE=99999999999\r\n"),
    "unknown parameter": (b"LHLO x\r\n", b"MAIL FROM:<a@b> X-NONE=1\r\n"),
    "chunk of no size": (b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<alice@example.org>\r\n",
                         b"BDAT all\r\n"),
    "chunk past 64 bits": (b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<alice@example.org>\r\n",
                           b"BDAT 99999999999999999999 LAST\r\n"),
    "binary": (b"LHLO x\r\n", bytes(range(128, 256)) * 4 + b"\r\n"),
}


class Refusals(Case):
    """One connection a piece of bad input; a good client is served after each."""

    def answer(self, wire, data, until=None):
        """What comes back within the deadline, the close included."""
        wire.socket.settimeout(8)
        try:
            wire.send(data)
        except (ConnectionError, TimeoutError):
            pass
        text = b""
        try:
            while not re.search(until, text):
                text += wire.line() + b"\r\n"
        except (Closed, ConnectionError):
            text += b"(closed)"
        except TimeoutError:
            text += b"(silence)"
        return text

    def judge(self, table, connect, until, good):
        bad = []
        for name, data in table.items():
            wire = connect()
            before, data = data if isinstance(data, tuple) else (b"", data)
            if before:
                wire.send(before)
                for _ in range(before.count(b"\r\n")):
                    wire.reply()
            text = self.answer(wire, data, until)
            wire.close()
            if not good(text):
                bad.append(f"{name}: {text[:300]!r}")
        self.assertEqual(bad, [], "these were not refused")

    IMAP_REFUSAL = rb"(?m)^(?:x|\*|A+|\+) (?:BAD|NO|BYE|OK)|^x OK"

    def imap_refused(self, text):
        return (re.search(rb"(?m)^\S+ (?:BAD|NO|BYE)", text) or b"(closed)" in text) \
            and b"(silence)" not in text and not re.search(rb"(?m)^x OK", text)

    def test_imap(self):
        one = self.serve()
        one.fill([MESSAGE])

        def connect():
            client = one.imap()
            client.select()
            return client

        self.judge(IMAP_REFUSED, connect, self.IMAP_REFUSAL, self.imap_refused)
        self.assertFalse([p for p in one.dir.parent.glob("escaped*")])
        with connect() as client:
            self.assertEqual(client.bodies(), {1: MESSAGE})
        self.assertTrue(one.alive())

    def test_imap_before_login(self):
        one = self.serve()

        # A wait for base64 is told by "+"; it isn't the answer.
        self.judge(IMAP_UNAUTHENTICATED, lambda: one.imap(None),
                   rb"(?m)^(?:x|\*|GET) (?:BAD|NO|BYE|OK)", self.imap_refused)
        with one.imap() as client:
            client.ok("NOOP")

    def test_pop3(self):
        one = self.serve()
        one.deliver(MESSAGE)
        self.judge(POP3_REFUSED, one.pop3, rb"(?m)^(?:\+OK|-ERR)",
                   lambda t: t.startswith(b"-ERR") or t.startswith(b"(closed)"))
        table = {"bad base64": b"AUTH PLAIN !!!!\r\n", "stat before login": b"STAT\r\n",
                 "long user": b"USER " + b"u" * 10_000 + b"\r\nPASS x\r\n"}
        self.judge(table, lambda: one.pop3(None), rb"(?m)^-ERR",
                   lambda t: b"-ERR" in t or b"(closed)" in t)
        with one.pop3() as client:
            self.assertTrue(client.retrieve(1).endswith(MESSAGE))

    def test_lmtp(self):
        one = self.serve()
        self.judge(LMTP_REFUSED, lambda: Wire2(one.at("lmtp")), rb"(?m)^\d{3} ",
                   lambda t: re.match(rb"[45]\d\d", t) or t.startswith(b"(closed)"))
        one.deliver(MESSAGE)
        with one.imap() as client:
            self.assertEqual(client.select()["exists"], 1)

    def test_messages_over_the_limit(self):
        self.only_cursus()
        one = self.serve(limits={"message_bytes_max": 2 * MIB})
        big = corpus.plain("too big", b"x" * 998 + b"\r\n")
        big += (b"y" * 998 + b"\r\n") * (3 * MIB // 1000)
        with one.lmtp() as client:
            [(code, text)] = client.deliver([one.address("alice")], big)
            self.assertEqual(code, 552, text)
            # The session goes on.
            [(code, text)] = client.deliver([one.address("alice")], MESSAGE)
            self.assertEqual(code, 250, text)
        with one.imap() as client:
            client.send(b"x APPEND INBOX {%d}\r\n" % len(big))
            self.assertRegex(client.line(), rb"x (NO|BAD)")
        with one.imap() as client:
            self.assertEqual(client.select()["exists"], 1)

    def test_garbage_on_every_port(self):
        one = self.serve()
        rng = random.Random(4)
        for name in one.ports:
            for size in (1, 100, 10_000, 300_000):
                with Wire(one.at(name), seconds=5) as wire:
                    try:
                        wire.send(rng.randbytes(size))
                        wire.socket.shutdown(socket.SHUT_WR)
                        wire.rest()
                    except OSError:
                        pass  # It hung up first, or waits for more: both are its right.
        # Connections that are reset rather than closed.
        for name in one.ports:
            for _ in range(20):
                wire = Wire(one.at(name))
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                wire.send(b"x LOG")
                wire.close()
        one.deliver(MESSAGE)
        with one.imap() as client:
            self.assertEqual(client.select()["exists"], 1)
        self.assertTrue(one.alive())

    def test_text_before_the_tls_handshake_is_not_believed(self):
        """What came in plain text behind STARTTLS must not run inside TLS."""
        one = self.serve()
        for port, start, injected, probe in (
            ("imap", b"a STARTTLS\r\n", b"b NOOP\r\n", b"c NOOP\r\n"),
            ("pop3", b"STLS\r\n", b"NOOP\r\n", b"CAPA\r\n"),
        ):
            wire = Wire(one.at(port))
            wire.line()
            wire.send(start + injected)
            try:
                self.assertIn(b"OK", wire.line())
                wire.buffer.clear()
                wire.wrap_tls()
            except OSError:
                continue  # Closing the connection is as safe.
            wire.send(probe)
            answer = wire.line()
            self.assertNotIn(b"b OK", answer)
            self.assertTrue(answer.startswith((b"c OK", b"+OK")), answer)
            wire.close()


class Wire2(Lmtp):
    """LMTP without LHLO: for commands out of order."""

    def __init__(self, address):
        Wire.__init__(self, address)
        self.greeting = self.reply()


class Memory(Case):
    def setUp(self):
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        want = SLOW_CONNECTIONS * 2 + 500
        if hard != resource.RLIM_INFINITY and hard < want:
            self.skipTest(f"{want} open files are needed, {hard} allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want), hard))

    def test_two_thousand_slow_clients(self):
        """One byte a second on each; the others are served and memory stays bounded."""
        self.only_cursus()
        one = self.serve()
        one.fill([MESSAGE] * 20)
        with one.imap() as client:
            client.select()
        before = one.child.rss_bytes()
        slow = []
        for number in range(SLOW_CONNECTIONS):
            kind = number % 4
            if kind == 0:
                wire, text = Pop3(one.at("pop3")), b"USER " + b"a" * 100
            elif kind == 1:
                wire, text = Lmtp(one.at("lmtp")), b"MAIL FROM:<" + b"a" * 100
            elif kind == 2:
                wire, text = one.imap(None), b"a LOGIN " + b"a" * 100
            else:
                wire = one.imap()
                wire.send(b"a APPEND INBOX {1000000+}\r\n")
                text = b"Subject: slow\r\n" * 10
            slow.append((wire, text))
        slowest = 0
        for second in range(SLOW_SECONDS):
            began = time.monotonic()
            for wire, text in slow:
                wire.send(text[second : second + 1])
            with one.imap() as client:
                client.select()
                self.assertEqual(len(client.bodies()), 20)
            one.deliver(MESSAGE, "bob")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(max(0.0, 1 - (time.monotonic() - began)))
        grown = one.child.rss_bytes() - before
        print(f"  {grown / MIB:.1f} MiB more for {SLOW_CONNECTIONS} slow connections, "
              f"a full round of theirs and of a quick client took {slowest:.2f} s at most")
        self.assertLess(grown, SLOW_CONNECTIONS * SLOW_BYTES_PER_CONNECTION_MAX)
        self.assertLess(slowest, 3)
        for wire, _ in slow:
            wire.close()
        with one.imap() as client:
            self.assertEqual(client.select()["exists"], 20, "half an APPEND was stored")

    def test_clients_that_do_not_read(self):
        """Hundreds of megabytes asked for and not read stay on disk."""
        one = self.serve()
        big = corpus.large_attachment(8 * MIB)
        one.fill([big])
        with one.imap(seconds=30) as client:
            client.select()
            self.assertEqual(client.bodies(), {1: big})
        lazy = []
        before = one.child.rss_bytes()
        for _ in range(20):
            client = one.imap()
            client.select()
            for _ in range(5):
                client.start("FETCH 1 BODY.PEEK[]")
            lazy.append(client)
        time.sleep(2)
        grown = one.child.rss_bytes() - before
        with one.imap(seconds=30) as client:
            client.select()
            began = time.monotonic()
            client.ok("FETCH 1 (FLAGS)")
            self.assertLess(time.monotonic() - began, 2)
        print(f"  {grown / MIB:.1f} MiB more for {20 * 5 * len(big) / MIB:.0f} MiB asked for")
        self.assertLess(grown, 64 * MIB)
        # One of them begins to read and gets all of it.
        for number in range(5):
            answer = lazy[0].until(b"a%d" % (lazy[0].serial - 4 + number))
            self.assertIn(big, answer[0])
        for client in lazy:
            client.close()
