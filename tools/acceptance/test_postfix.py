"""Postfix hands over real mail by LMTP; IMAP and POP3 give back every byte."""

import collections
import hashlib
import re
import smtplib
import threading

from harness import corpus, proc, server
from harness.case import Case
from harness.postfix import Postfix, Sink

SENDERS = 4
DELIVERY_SECONDS = 100
# What final delivery may put in front of a message (RFC 5321 4.4).
TRACE = re.compile(rb"(?:(?:Return-Path|Delivered-To|Received|X-Original-To):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)*",
                   re.IGNORECASE)


def digest(message):
    return hashlib.sha256(message).hexdigest()


class Handover(Case):
    """All layouts at once: one queue file goes to each server and to a recording sink."""

    seconds = 240

    def test_real_and_odd_mail_arrives_byte_for_byte(self):
        self.need("postfix")
        real, notes = corpus.real_messages()
        for note in notes:
            print("corpus:", note)
        self.assertGreaterEqual(len(real), corpus.REAL_MESSAGES_MIN,
                                f"too few real messages could be had: {notes}")
        odd = corpus.generated()
        if server.ORACLE == "dovecot":
            # Dovecot serves 0x80 for NUL; a store that keeps bytes serves NUL.
            real = [m for m in real if b"\0" not in m]
            odd = {name: m for name, m in odd.items() if b"\0" not in m}
        layouts = ("maildir",) if server.ORACLE == "dovecot" else server.LAYOUTS
        servers = {layout: self.serve(layout, limits={"message_bytes_max": 50_000_000})
                   for layout in layouts}
        sink = Sink()
        self.addCleanup(sink.close)
        transports = {f"{layout}.test": f"lmtp:unix:{one.lmtp_socket}"
                      for layout, one in servers.items()}
        transports["sink.test"] = f"lmtp:inet:127.0.0.1:{sink.port}"

        with Postfix(transports) as postfix:
            recipients = [f"alice@{domain}" for domain in transports]
            by_smtp = [*real[20:], *odd.values()]
            refused = self.submit(postfix, recipients, by_smtp)
            self.assertEqual(refused, [])
            for message in real[:20]:
                postfix.sendmail("lists@example.net", recipients, message.replace(b"\r\n", b"\n"))
            sent = len(by_smtp) + 20
            try:
                proc.wait_until(
                    lambda: len(sink.messages) >= sent and postfix.queued() == 0,
                    DELIVERY_SECONDS, "Postfix to empty its queue", step=0.2)
            except TimeoutError as error:
                deferred = [l for l in postfix.log().splitlines() if "status=" in l
                            and "status=sent" not in l]
                raise AssertionError(f"{error}; {postfix.queued()} left, sink has "
                                     f"{len(sink.messages)} of {sent}:\n" + "\n".join(deferred[-8:]))
            bounced = [l for l in postfix.log().splitlines() if "status=bounced" in l]
            self.assertEqual(bounced, [])

        self.assertEqual(len(sink.messages), sent)
        handed = {digest(m): m for m in sink.messages}
        want = collections.Counter(digest(m) for m in sink.messages)
        # The comparison would prove nothing if Postfix had mangled the bodies.
        body = odd["lone CR"].partition(b"\r\n\r\n")[2]
        self.assertTrue(any(body in m for m in sink.messages), "Postfix mended lone CRs")

        for layout, one in servers.items():
            with self.subTest(layout=layout):
                with one.imap(seconds=60) as client:
                    client.select()
                    found = client.bodies()
                    self.compare(want, handed, found.values())
                    self.sizes_agree(client, found)
                    self.structures_answer(client, len(found))
                self.pop3_agrees(one, found)
                with one.imap(seconds=60) as client:
                    client.select()
                    again = {uid: digest(m) for uid, m in client.bodies().items()}
                    self.assertEqual(again, {uid: digest(m) for uid, m in found.items()})

    def submit(self, postfix, recipients, messages):
        """Several SMTP connections with many messages each. Gives what was refused."""
        refused = []
        # Dovecot 2.3 doesn't take SMTPUTF8.
        options = ["BODY=8BITMIME"] + ["SMTPUTF8"] * (server.ORACLE == "cursus")
        queue = list(enumerate(messages))
        lock = threading.Lock()

        def work():
            client = smtplib.SMTP("127.0.0.1", postfix.port, timeout=60)
            client.ehlo("acceptance.test")
            while True:
                with lock:
                    if not queue:
                        break
                    number, message = queue.pop()
                try:
                    client.sendmail("lists@example.net", recipients, message,
                                    mail_options=options)
                except smtplib.SMTPException as error:
                    with lock:
                        refused.append((number, message[:80], str(error)))
                    client.close()
                    client = smtplib.SMTP("127.0.0.1", postfix.port, timeout=60)
                    client.ehlo("acceptance.test")
            client.quit()

        threads = [threading.Thread(target=work) for _ in range(SENDERS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        return refused

    def compare(self, want, handed, stored):
        """Each message that Postfix handed over is stored once, nothing else is."""
        got = collections.Counter()
        strange = []
        # The longest match wins: a message may itself begin with trace lines.
        for message in stored:
            trace = TRACE.match(message).end()
            cut = next((at for at in self.line_starts(message, trace)
                        if digest(message[at:]) in handed), None)
            if cut is None:
                strange.append(message)
            else:
                got[digest(message[cut:])] += 1
        missing = want - got
        if missing or got - want or strange:
            text = [f"{sum(missing.values())} missing, {sum((got - want).values())} doubled, "
                    f"{len(strange)} changed, of {sum(want.values())}"]
            for name in list(missing)[:3]:
                text.append(f"missing: {handed[name][:300]!r} ({len(handed[name])} bytes)")
            for message in strange[:3]:
                text.append(f"changed: {message[:400]!r} ({len(message)} bytes)")
            self.fail("\n".join(text))

    @staticmethod
    def line_starts(message, end):
        """Places up to `end` where a line starts."""
        at = 0
        while at <= end:
            yield at
            next_line = message.find(b"\r\n", at)
            if next_line < 0:
                return
            at = next_line + 2

    def sizes_agree(self, client, found):
        sizes = {}
        for line in client.ok("UID FETCH 1:* (UID RFC822.SIZE)"):
            size, uid = re.search(rb"RFC822\.SIZE (\d+)", line), re.search(rb"UID (\d+)", line)
            if size and uid:
                sizes[int(uid[1])] = int(size[1])
        self.assertEqual(sizes, {uid: len(m) for uid, m in found.items()})

    def structures_answer(self, client, count):
        """Whatever the MIME is like, each message has an envelope and a structure."""
        for items in ("ENVELOPE", "BODY", "BODYSTRUCTURE", "BODY.PEEK[HEADER]", "BODY.PEEK[1]"):
            lines = client.ok(f"FETCH 1:* ({items})")
            fetched = [l for l in lines if re.match(rb"\* \d+ FETCH", l)]
            self.assertEqual(len(fetched), count, f"FETCH {items} left messages out")
            for line in fetched:
                if not items.startswith("BODY.PEEK"):
                    self.assertTrue(balanced(line), f"parentheses of {line[:300]!r}")

    def pop3_agrees(self, one, found):
        with one.pop3(utf8=True, seconds=60) as client:
            count = int(client.ok("STAT").split()[1])
            self.assertEqual(count, len(found))
            listed = client.lines("UIDL")
            self.assertEqual(len({l.split()[1] for l in listed}), count, "UIDL repeats a name")
            in_order = [found[uid] for uid in sorted(found)]
            for number in range(1, count + 1):
                got = client.retrieve(number)
                want = in_order[number - 1]
                if not want.endswith(b"\r\n"):
                    want += b"\r\n"
                self.assertEqual(digest(got), digest(want), f"POP3 message {number}")


class Outbox(Case):
    """What a client saves to the outbox is sent by Postfix's sendmail command, as with Courier."""

    def test_curl_saves_and_postfix_delivers(self):
        self.only_cursus()
        curl = self.need("curl", "postfix")[0]
        one = server.make("maildir")
        self.servers.append(one)
        with Postfix({"maildir.test": f"lmtp:unix:{one.lmtp_socket}"}) as postfix:
            one.extra = (f'[outbox]\nmailbox = "Outbox"\n'
                         f'sendmail = ["/usr/sbin/sendmail", "-C", "{postfix.config}"]\n')
            one.write_config()
            one.start()
            with one.imap() as client:
                client.ok("CREATE Outbox")
            letter = one.dir / "letter"
            letter.write_bytes(b"To: bob@maildir.test\r\nBcc: alice@maildir.test\r\n"
                               b"Subject: by the outbox\r\n\r\n.\r\nSaved and sent.\r\n")
            proc.run([curl, "-sS", "--max-time", "20", "--user", f"alice:{server.PASSWORD}",
                      "-T", letter, "imap://127.0.0.1:%d/Outbox" % one.ports["imap"]])
            for user in ("bob", "alice"):
                with one.imap(user) as client:
                    def arrived():
                        client.select()
                        return list(client.bodies().values())

                    [message] = proc.wait_until(arrived, 20, "the message")
                self.assertIn(b"\r\nX-IMAP-Sender: alice\r\n", message)
                self.assertTrue(message.endswith(b"\r\n\r\n.\r\nSaved and sent.\r\n"), message)
                self.assertNotIn(b"\nBcc:", message)
            with one.imap() as client:
                client.select("Outbox")
                self.assertEqual(list(client.bodies().values()), [letter.read_bytes()])


def balanced(response):
    """Whether parentheses outside strings and literals match."""
    depth, at = 0, 0
    while at < len(response):
        byte = response[at : at + 1]
        if byte == b'"':
            at += 1
            while response[at : at + 1] not in (b'"', b""):
                at += 2 if response[at : at + 1] == b"\\" else 1
        elif byte == b"{" and (literal := re.match(rb"\{(\d+)\}\r\n", response[at:])):
            at += literal.end() + int(literal[1]) - 1
        elif byte == b"(":
            depth += 1
        elif byte == b")":
            depth -= 1
            if depth < 0:
                return False
        at += 1
    return depth == 0
