"""Small raw clients for IMAP, LMTP and POP3: they show bytes and hide nothing.

Library clients are tested as clients; these are the test's own eyes.
"""

import re
import socket
import ssl

RECV_BYTES = 1 << 16


class Closed(ConnectionError):
    """The server closed the connection."""


class Wire:
    """A socket with a buffer and a deadline per read."""

    def __init__(self, address, *, seconds=20, tls=False):
        if isinstance(address, (str, bytes)) or hasattr(address, "__fspath__"):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(seconds)
            self.socket.connect(str(address))
        else:
            self.socket = socket.create_connection(address, timeout=seconds)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.wrap_tls()
        self.buffer = bytearray()

    def wrap_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)

    def send(self, data):
        self.socket.sendall(data)

    def fill(self):
        try:
            got = self.socket.recv(RECV_BYTES)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError) as error:
            raise Closed(str(error)) from error
        if not got:
            raise Closed("end of stream")
        self.buffer += got

    def line(self):
        """The next line without its CRLF."""
        start = 0
        while (end := self.buffer.find(b"\n", start)) < 0:
            start = len(self.buffer)
            self.fill()
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        return line.rstrip(b"\r\n")

    def exactly(self, count):
        while len(self.buffer) < count:
            self.fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def rest(self):
        """Everything until the server closes."""
        try:
            while True:
                self.fill()
        except Closed:
            pass
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


LITERAL = re.compile(rb"~?\{(\d+)\}$")


class Imap(Wire):
    """IMAP with responses as (bytes with literals inlined)."""

    def __init__(self, address, **options):
        super().__init__(address, **options)
        self.serial = 0
        self.greeting = self.line()

    def response(self):
        """One whole response, its literals included with their CRLFs."""
        line = self.line()
        whole = line
        while found := LITERAL.search(line):
            data = self.exactly(int(found[1]))
            line = self.line()
            whole += b"\r\n" + data + line
        return whole

    def until(self, tag):
        """Responses up to and including the tagged one."""
        seen = []
        while True:
            one = self.response()
            seen.append(one)
            if one.startswith(tag + b" "):
                return seen

    def start(self, command):
        self.serial += 1
        tag = b"a%d" % self.serial
        if isinstance(command, str):
            command = command.encode()
        self.send(tag + b" " + command + b"\r\n")
        return tag

    def command(self, command):
        """Sends one command and gives its responses, the tagged one last."""
        return self.until(self.start(command))

    def ok(self, command):
        answer = self.command(command)
        if b" OK" not in answer[-1][:20]:
            raise AssertionError(f"{command!r} answered {answer[-1]!r}")
        return answer

    def login(self, user, password):
        self.ok(b"LOGIN " + quote(user) + b" " + quote(password))
        return self

    def append(self, mailbox, message, flags=b""):
        """APPEND with a non-synchronising literal; gives (uidvalidity, uid) or None."""
        flags = b" (" + flags + b")" if flags else b""
        head = b"APPEND " + quote(mailbox) + flags + b" {%d+}\r\n" % len(message)
        answer = self.ok(head + message)
        found = re.search(rb"\[APPENDUID (\d+) (\d+)\]", answer[-1])
        return (int(found[1]), int(found[2])) if found else None

    def select(self, mailbox="INBOX"):
        """SELECT; gives a dict of exists, uidvalidity, uidnext."""
        out = {}
        for line in self.ok(b"SELECT " + quote(mailbox)):
            if found := re.match(rb"\* (\d+) EXISTS", line):
                out["exists"] = int(found[1])
            if found := re.search(rb"\[(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ) (\d+)\]", line):
                out[found[1].decode().lower()] = int(found[2])
        return out

    def uid_search(self, what="ALL"):
        for line in self.ok(f"UID SEARCH {what}"):
            if line.startswith(b"* SEARCH"):
                return [int(n) for n in line.split()[2:]]
        return []

    def bodies(self, uids="1:*"):
        """UID to message bytes."""
        out = {}
        for one in self.ok(f"UID FETCH {uids} (UID BODY.PEEK[])"):
            parsed = parse_body(one)
            if parsed:
                out[parsed[0]] = parsed[1]
        return out


BODY_HEAD = re.compile(rb"BODY\[[^\]]*\](?:<\d+>)? (?:\{(\d+)\}\r\n|\"([^\"]*)\")")


def parse_body(response):
    """(uid, literal) out of one FETCH response that has UID and one BODY[…]."""
    if not re.match(rb"\* \d+ FETCH", response):
        return None
    found = BODY_HEAD.search(response)
    if not found:
        return None
    if found[1] is not None:
        start = found.end()
        body = response[start : start + int(found[1])]
        around = response[: found.start()] + response[start + int(found[1]) :]
    else:
        body = found[2]
        around = response[: found.start()] + response[found.end() :]
    uid = re.search(rb"UID (\d+)", around)
    return (int(uid[1]), body) if uid else None


def quote(text):
    if isinstance(text, str):
        text = text.encode()
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


class Lmtp(Wire):
    """LMTP; `deliver` gives one reply per recipient."""

    def __init__(self, address, **options):
        super().__init__(address, **options)
        self.greeting = self.reply()
        self.features = self.command(b"LHLO acceptance.test")[1]

    def reply(self):
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if line[3:4] != b"-":
                return int(line[:3]), lines

    def command(self, line):
        self.send(line + b"\r\n")
        return self.reply()

    def deliver(self, recipients, message, sender="sender@example.net"):
        """Gives [(code, text)] for DATA, or the refusals of RCPT where none was accepted."""
        code, text = self.command(b"MAIL FROM:<%s>" % sender.encode())
        if code != 250:
            return [(code, text)] * len(recipients)
        accepted = 0
        refusals = []
        for one in recipients:
            code, text = self.command(b"RCPT TO:<%s>" % one.encode())
            if code == 250:
                accepted += 1
            else:
                refusals.append((code, text))
        if not accepted:
            return refusals
        code, text = self.command(b"DATA")
        if code != 354:
            return [(code, text)] * accepted + refusals
        self.send(dot_stuff(message) + b".\r\n")
        return [self.reply() for _ in range(accepted)] + refusals


def dot_stuff(message):
    """Message bytes as DATA sends them, without the closing dot line."""
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    out = message.replace(b"\r\n.", b"\r\n..")
    return b"." + out if out.startswith(b".") else out


class Pop3(Wire):
    """POP3; multi-line answers come undotted."""

    def __init__(self, address, **options):
        super().__init__(address, **options)
        self.greeting = self.line()

    def command(self, line):
        self.send(line.encode() + b"\r\n" if isinstance(line, str) else line + b"\r\n")
        return self.line()

    def ok(self, line):
        answer = self.command(line)
        if not answer.startswith(b"+OK"):
            raise AssertionError(f"{line!r} answered {answer!r}")
        return answer

    def lines(self, line):
        self.ok(line)
        out = []
        while (one := self.line()) != b".":
            out.append(one[1:] if one.startswith(b".") else one)
        return out

    def retrieve(self, number):
        """Message bytes: read raw, since lines may hold lone CRs."""
        self.ok(f"RETR {number}")
        while (end := self.buffer.find(b"\r\n.\r\n")) < 0 and not self.buffer.startswith(b".\r\n"):
            self.fill()
        raw = self.exactly(end + 2)
        self.exactly(3)
        raw = raw.replace(b"\r\n..", b"\r\n.")
        return raw[1:] if raw.startswith(b"..") else raw

    def login(self, user, password):
        self.ok(f"USER {user}")
        self.ok(f"PASS {password}")
        return self
