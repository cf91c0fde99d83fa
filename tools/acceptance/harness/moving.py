"""Mail on one IMAP server and on another, compared message by message."""

import collections
import hashlib
import imaplib
import re
import socket
import threading
import time

imaplib._MAXLINE = 10_000_000

FACTS = re.compile(rb"FLAGS \(([^)]*)\)")
DATE = re.compile(rb'INTERNALDATE "([^"]*)"')


def login(port, user, password):
    client = imaplib.IMAP4("127.0.0.1", port, timeout=60)
    client.login(user, password)
    return client


def ok(answer):
    kind, data = answer
    if kind != "OK":
        raise AssertionError(f"answered {kind} {data}")
    return data


def quoted(name):
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def when(text):
    """INTERNALDATE as Unix seconds."""
    text = text.decode().strip()
    moment = time.mktime(time.strptime(text[:-6].strip(), "%d-%b-%Y %H:%M:%S")) - time.timezone
    sign = -1 if text[-5] == "-" else 1
    return int(moment - sign * (int(text[-4:-2]) * 3600 + int(text[-2:]) * 60))


def messages(client, mailbox):
    """Each message as (sha256, flags, date), and how often it is there."""
    ok(client.select(quoted(mailbox), readonly=True))
    found = collections.Counter()
    [number] = client.untagged_responses.get("EXISTS", [b"0"])[-1:]
    if int(number) == 0:
        return found
    for part in ok(client.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")):
        if not isinstance(part, tuple):
            continue
        head, body = part
        flags = FACTS.search(head)
        date = DATE.search(head)
        assert flags and date, head
        words = sorted(flag for flag in flags[1].decode().split() if flag.lower() != "\\recent")
        found[(hashlib.sha256(body).hexdigest(), tuple(words), when(date[1]))] += 1
    return found


def attributes(client, mailbox):
    """What LIST says of a mailbox."""
    for line in ok(client.list('""', quoted(mailbox))):
        if line:
            return set(re.search(rb"\(([^)]*)\)", line)[1].decode().split())
    return set()


class Source:
    """A peer's mailboxes under names of ours."""

    def __init__(self, peer, user, password):
        self.peer, self.user = peer, user
        self.client = login(peer.ports["imap"], user, password)

    def name(self, mailbox):
        return self.peer.theirs(mailbox)

    def create(self, mailbox):
        ok(self.client.create(quoted(self.name(mailbox))))

    def append(self, mailbox, message, flags, date):
        if mailbox == "INBOX" and self.client.state == "SELECTED":
            # Courier appends nothing to what is open to be read only.
            ok(self.client.select("INBOX"))
        stamp = imaplib.Time2Internaldate(date)
        ok(self.client.append(quoted(self.name(mailbox)), f"({flags})", stamp, message))

    def store(self, mailbox, uids, how, flags):
        ok(self.client.select(quoted(self.name(mailbox))))
        ok(self.client.uid("STORE", uids, how, f"({flags})"))
        self.leave()

    def leave(self):
        """Unselects without an expunge, which CLOSE would make."""
        ok(self.client.select("INBOX", readonly=True))

    def expunge(self, mailbox, uids):
        """Expunges these and what is marked; gives how many went."""
        ok(self.client.select(quoted(self.name(mailbox))))
        ok(self.client.uid("STORE", uids, "+FLAGS", "(\\Deleted)"))
        gone = [part for part in ok(self.client.expunge()) if part]
        self.leave()
        return len(gone)

    def rename(self, old, new):
        ok(self.client.rename(quoted(self.name(old)), quoted(self.name(new))))

    def delete(self, mailbox):
        ok(self.client.delete(quoted(self.name(mailbox))))

    def messages(self, mailbox):
        return messages(self.client, self.name(mailbox))


class Cutter:
    """Passes connections on to a port of this machine, and cuts each after so many octets."""

    def __init__(self, port, octets):
        self.to, self.octets, self.cuts = port, octets, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self.pass_on, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(server, client, self.octets), daemon=True).start()

    def pass_on(self, source, sink, left):
        try:
            while data := source.recv(4096):
                if left is not None:
                    left -= len(data)
                    if left < 0:
                        self.cuts += 1
                        break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


class Faulty(Cutter):
    """Passes IMAP on; what a client's command says decides what becomes of it.

    `answer(number, line)` is asked of each command, with its number in the connection: None passes it on,
    "cut" closes the connection, "bye" says so before; all else is the answer in the server's place.
    """

    def __init__(self, port, answer):
        self.answer, self.connections = answer, 0
        super().__init__(port, None)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self.commands, args=(client, server), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(server, client, None), daemon=True).start()

    def commands(self, client, server):
        number = 0
        try:
            for line in client.makefile("rb"):
                number += 1
                tag, *rest = line.rstrip(b"\r\n").split(b" ", 1)
                said = self.answer(number, rest[0].decode("ascii", "replace") if rest else "")
                if said is None:
                    server.sendall(line)
                    continue
                self.cuts += said in ("cut", "bye")
                if said == "bye":
                    client.sendall(b"* BYE Too much of it\r\n")
                if said in ("cut", "bye"):
                    break
                client.sendall(tag + b" " + said.encode() + b"\r\n")
        except OSError:
            pass
        for end in (client, server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
