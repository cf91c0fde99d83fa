"""IMAP responses in a form in which servers can be compared.

What RFCs leave to the server is taken away: texts for people, tags, how a string is sent, the
order in lists that are sets, letter case where it has no meaning, in how many FETCH responses a
message is told, from which end messages are expunged, how a mailbox is called by this server.
What is left are lines of text. Nothing that a client would act upon may be lost here.
"""

import re

NUMBER_SET = re.compile(rb"[0-9][0-9:,]*")
SECTION = re.compile(rb"(?:BODY|BODY\.PEEK|BINARY|BINARY\.SIZE|RFC822)\[", re.IGNORECASE)
# Told when a server likes to; compared where a step speaks of them.
OPTIONAL = re.compile(r"\* (FLAGS|\d+ RECENT|OK \[\S+)")


class Atom(bytes):
    """Anything that was not sent as a string: words, numbers, NIL."""


class Str(bytes):
    """A quoted string or literal."""


def tokens(data):
    """The values of one response, parenthesised lists as lists."""
    stack, at = [[]], 0
    while at < len(data):
        byte = data[at:at + 1]
        if byte in b" \r\n":
            at += 1
        elif byte == b"(":
            stack.append([])
            at += 1
        elif byte == b")":
            if len(stack) > 1:
                done = stack.pop()
                stack[-1].append(done)
            at += 1
        elif byte == b'"':
            end = at + 1
            while data[end:end + 1] not in (b'"', b""):
                end += 2 if data[end:end + 1] == b"\\" else 1
            stack[-1].append(Str(re.sub(rb"\\(.)", rb"\1", data[at + 1:end], flags=re.DOTALL)))
            at = end + 1
        elif found := re.compile(rb"~?\{(\d+)\+?\}\r\n").match(data, at):
            end = found.end() + int(found[1])
            stack[-1].append(Str(data[found.end():end]))
            at = end
        else:
            at = atom(stack[-1], data, at)
    return stack[0]


def atom(into, data, at):
    """Takes a word; one with a section, such as BODY[HEADER.FIELDS (TO)]<0>, is one word."""
    end = at
    if found := SECTION.match(data, at):
        close = data.find(b"]", found.end())
        end = close + 1 if close >= 0 else len(data)
        into.append(Atom(b" ".join(data[at:end].upper().replace(b'"', b"").split())))
        if found := re.compile(rb"<\d+(\.\d+)?>").match(data, end):
            into[-1] = Atom(into[-1] + found[0])
            end = found.end()
        return end
    while data[end:end + 1] not in (b" ", b"(", b")", b'"', b"\r", b"\n", b""):
        end += 1
    into.append(Atom(data[at:max(end, at + 1)]))
    return max(end, at + 1)


def text(value):
    """A value as it is compared: strings in quotes with escapes, lists in parentheses."""
    if isinstance(value, list):
        return "(" + " ".join(text(one) for one in value) + ")"
    if isinstance(value, Str):
        shown = value.decode("utf-8", "surrogateescape").replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(map(visible, shown)) + '"'
    return value.decode("utf-8", "backslashreplace")


def visible(char):
    """A character of a string; what is no text as transcripts write it."""
    if char in "\r\n":
        return {"\r": "\\r", "\n": "\\n"}[char]
    if 0xDC80 <= ord(char) <= 0xDCFF:
        return f"\\x{ord(char) - 0xDC00:02X}"
    return f"\\x{ord(char):02X}" if ord(char) < 32 else char


def numbers(data):
    """The members of a set without `*`."""
    out = []
    for part in data.split(b","):
        first, _, last = part.partition(b":")
        low, high = sorted((int(first), int(last or first)))
        out += range(low, high + 1)
    return out


def as_set(members):
    """Numbers in order as a sequence set; a run in rising order is a range."""
    out, members = [], list(members)
    while members:
        run = 1
        while run < len(members) and members[run] == members[0] + run:
            run += 1
        out.append(f"{members[0]}" if run == 1 else f"{members[0]}:{members[run - 1]}")
        del members[:run]
    return Atom(",".join(out).encode())


def renamed(text, name, other):
    """A text with another name where the name stands as a word."""
    return re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", other, text)


def renamed_in(value, name, other):
    if isinstance(value, list):
        return [renamed_in(one, name, other) for one in value]
    if name.encode() not in value:
        return value
    return type(value)(renamed(value.decode("latin-1"), name, other).encode("latin-1"))


def ordered(values):
    return sorted(values, key=lambda one: text(one).lower())


def pairs_ordered(values):
    """name value name value… by name."""
    if len(values) % 2:
        return values
    pairs = sorted(zip(values[::2], values[1::2]), key=lambda pair: text(pair[0]).lower())
    return [one for pair in pairs for one in pair]


def body(value):
    """BODYSTRUCTURE with the words that ignore case in small letters (RFC 9051, section 7.5.2)."""
    if not isinstance(value, list) or not value:
        return value
    if isinstance(value[0], list):
        count = next((n for n, one in enumerate(value) if not isinstance(one, list)), len(value))
        out = [body(one) for one in value[:count]]
        rest = value[count:]
        return out + [extension(one, at) for at, one in enumerate(rest)]
    out = [low(one) if at in (0, 1, 5) else parameters(one) if at == 2 else one
           for at, one in enumerate(value)]
    is_message = [low(one) for one in value[:2]] == [Str(b"message"), Str(b"rfc822")]
    behind = 8 if low(value[0]) == Str(b"text") else 7
    if is_message and len(value) > 8:
        out[8] = body(value[8])
        behind = 10
    # MD5, then disposition, language, location.
    for at in range(behind + 1, len(out)):
        out[at] = extension(out[at], 2 if at == behind + 1 else 3)
    return out


def extension(value, at):
    """The parts behind a multipart's children: subtype, parameters, disposition, the rest."""
    if at == 0:
        return low(value)
    if at == 1:
        return parameters(value)
    if at == 2 and isinstance(value, list) and len(value) == 2:
        return [low(value[0]), parameters(value[1])]
    return value


def low(value):
    return type(value)(value.lower()) if isinstance(value, Str) else value


def parameters(value):
    if not isinstance(value, list):
        return value
    out = [low(one) if at % 2 == 0 else one for at, one in enumerate(value)]
    for at in range(0, len(out) - 1, 2):
        if out[at] == b"charset":
            out[at + 1] = low(out[at + 1])
    return pairs_ordered(out)


class Normaliser:
    """Responses of one session. `name` gives a mailbox's name as transcripts have it; `words` are
    what stands for something else in this run, such as the users' names. Numbers of EXPUNGE, each
    of which is `in_turn` after the one before, become those from before the first."""

    def __init__(self, name=lambda mailbox: mailbox, words=(), recent=False, in_turn=True):
        self.in_turn = in_turn
        self.name = name
        self.words = words
        self.recent = recent

    def lines(self, responses, tag=b""):
        """Normal lines of the responses to one command, told in order, tagged line last."""
        out, fetched, expunged = [], {}, []
        for one in responses:
            told = self.response(one, tag)
            if told is None:
                continue
            if told[0] == "FETCH":
                fetched.setdefault(told[1], {}).update(told[2])
            elif told[0] == "EXPUNGE":
                expunged.append(told[1])
            else:
                out.append(told[1])
        for number, items in fetched.items():
            shown = " ".join(f"{name} {value}".strip() for name, value in sorted(items.items()))
            out.append(f"* {number} FETCH ({shown})")
        out += [f"* {number} EXPUNGE" for number in (original(expunged) if self.in_turn else expunged)]
        return out

    def values(self, data):
        """The values of a response, users called as transcripts call them."""
        values = tokens(data)
        for there, here in self.words:
            values = [renamed_in(one, there, here) for one in values]
        return values

    def response(self, one, tag):
        """("LINE", text), ("FETCH", number, items), ("EXPUNGE", number), or None: says nothing."""
        head, _, rest = one.partition(b" ")
        if head == b"+":
            return ("LINE", "+")
        if tag and head == tag:
            return ("LINE", self.status(rest, tag))
        if head != b"*":
            return ("LINE", text(Atom(one)))
        word = rest.split(b" ", 1)[0].upper()
        if word in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
            told = self.status(rest, tag)
            if told == "OK" or told.startswith("OK [CAPABILITY"):
                return None
            return ("LINE", f"* {told}")
        return self.data(self.values(rest), tag)

    def status(self, rest, tag):
        """OK, NO or BAD with the code, without the text."""
        word, _, behind = rest.partition(b" ")
        word = word.upper().decode()
        if not behind.startswith(b"["):
            return word
        code = self.values(self.code(behind))
        kind = code[0].upper() if code else b""
        # CLIENTBUG is a remark (RFC 5530): Dovecot makes it where a command is of no use.
        if kind in (b"CAPABILITY", b"CLIENTBUG"):
            return word
        if kind in (b"PERMANENTFLAGS", b"BADCHARSET") and len(code) > 1:
            code[1] = ordered(code[1])
        if kind == b"COPYUID" and len(code) == 4 and b"$" not in b"".join(code[2:]):
            there = sorted(zip(numbers(code[2]), numbers(code[3])))
            code[2:] = [as_set(n for n, _ in there), as_set(n for _, n in there)]
        if kind == b"APPENDUID" and len(code) == 3 and b"$" not in code[2]:
            code[2] = as_set(numbers(code[2]))
        if kind == b"MODIFIED" and len(code) == 2:
            code[1] = as_set(sorted(numbers(code[1])))
        return f"{word} [{' '.join(text(one) for one in [Atom(kind), *code[1:]])}]"

    def code(self, behind):
        """What is between the brackets; a quoted string may hold one."""
        at, quoted = 1, False
        while at < len(behind):
            byte = behind[at:at + 1]
            quoted ^= byte == b'"'
            if byte == b"]" and not quoted:
                break
            at += 1
        return behind[1:at]

    def data(self, values, tag):
        if len(values) > 1 and NUMBER_SET.fullmatch(values[0]):
            number, word = values[0].decode(), values[1].upper()
            if word in (b"FETCH", b"UIDFETCH"):
                return ("FETCH", number, self.items(values[2]))
            if word == b"EXPUNGE":
                return ("EXPUNGE", int(number))
            if word == b"RECENT" and not self.recent:
                return None
            return ("LINE", f"* {number} {word.decode()}")
        word, values = values[0].upper(), values[1:]
        shape = getattr(self, "on_" + word.decode("ascii", "replace").lower(), None)
        if shape:
            try:
                values = shape(values, tag)
            except (AttributeError, IndexError, TypeError, ValueError):
                pass  # Not of the grammar: it is compared as it came.
        if values is None:
            return None
        return ("LINE", " ".join(["*", word.decode(), *(text(one) for one in values)]))

    # -- one method a kind of response ------------------------------------------

    def mailbox(self, value):
        name = value.decode("utf-8", "backslashreplace")
        name = "INBOX" if name.upper() == "INBOX" else self.name(name)
        return Str(name.encode())

    def flags(self, values):
        return ordered(one for one in values if self.recent or one.lower() != b"\\recent")

    def on_capability(self, values, tag):
        return None

    def on_flags(self, values, tag):
        return [self.flags(values[0])]

    def on_list(self, values, tag):
        attributes = ordered(Atom(one.lower()) for one in values[0]
                             if one.lower() not in (b"\\marked", b"\\unmarked"))
        separator = values[1] if values[1].upper() == b"NIL" else Str(b"/")
        extended = values[3:]
        if extended and isinstance(extended[0], list):
            items = []
            for key, value in zip(extended[0][::2], extended[0][1::2]):
                if key.upper() == b"OLDNAME":
                    value = [self.mailbox(one) for one in value]
                elif isinstance(value, list):
                    value = ordered(value)
                items += [Str(key.upper()), value]
            extended = [pairs_ordered(items)]
        return [attributes, separator, self.mailbox(values[2]), *extended]

    def on_lsub(self, values, tag):
        # Whether it has children, some servers add (RFC 3348 speaks of LIST alone).
        values[0] = [one for one in values[0]
                     if one.lower() not in (b"\\haschildren", b"\\hasnochildren")]
        return self.on_list(values, tag)

    on_xlist = on_list

    def on_status(self, values, tag):
        items = [Atom(one.upper()) if at % 2 == 0 else one for at, one in enumerate(values[1])]
        return [self.mailbox(values[0]), pairs_ordered(items)]

    def on_search(self, values, tag):
        at = next((n for n, one in enumerate(values) if isinstance(one, list)), len(values))
        return sorted(values[:at], key=int) + values[at:]

    def on_esearch(self, values, tag):
        out, at = [], 0
        if values and isinstance(values[0], list):
            correlator = values[0]
            out.append(self.correlator(correlator, tag))
            at = 1
        uid = at < len(values) and values[at] == b"UID"
        if uid:
            out.append(Atom(b"UID"))
            at += 1
        items = []
        for key, value in zip(values[at::2], values[at + 1::2]):
            if key == b"ALL" and NUMBER_SET.fullmatch(value):
                value = as_set(numbers(value))
            items += [Atom(key.upper()), value]
        return out + pairs_ordered(items)

    def on_uidbatches(self, values, tag):
        return [self.correlator(values[0], tag), *values[1:]]

    def correlator(self, values, tag):
        items = []
        for key, value in zip(values[::2], values[1::2]):
            key = key.upper()
            if key == b"TAG" and value == tag:
                value = Str(b"tag")
            if key == b"MAILBOX":
                value = self.mailbox(value)
            items += [Atom(key), Str(value)]
        return pairs_ordered(items)

    def on_vanished(self, values, tag):
        values[-1] = as_set(sorted(numbers(values[-1])))
        return values

    def on_acl(self, values, tag):
        pairs = [rights(one) if at % 2 else Str(one) for at, one in enumerate(values[1:])]
        return [self.mailbox(values[0]), *pairs_ordered(pairs)]

    def on_myrights(self, values, tag):
        return [self.mailbox(values[0]), rights(values[1])]

    def on_listrights(self, values, tag):
        return [self.mailbox(values[0]), Str(values[1]), rights(values[2]),
                *ordered(rights(one) for one in values[3:])]

    def on_quotaroot(self, values, tag):
        return [self.mailbox(values[0]), *(Str(one) for one in values[1:])]

    def on_quota(self, values, tag):
        resources = [values[1][at:at + 3] for at in range(0, len(values[1]), 3)]
        return [Str(values[0]), [one for each in ordered(resources) for one in each]]

    def on_metadata(self, values, tag):
        out = [self.mailbox(values[0]) if values[0] else Str(b"")]
        if isinstance(values[1], list):
            named = [Str(one.lower()) if at % 2 == 0 else one for at, one in enumerate(values[1])]
            return out + [pairs_ordered(named)]
        return out + ordered(Str(one.lower()) for one in values[1:])

    def on_genurlauth(self, values, tag):
        return [Str(one) for one in values]

    def on_urlfetch(self, values, tag):
        return [Str(values[0]), *values[1:]]

    # -- FETCH -------------------------------------------------------------------

    def items(self, values):
        out, at = {}, 0
        while at + 1 < len(values):
            name, value = values[at].upper().decode(), values[at + 1]
            if name == "FLAGS":
                value = self.flags(value)
            elif name in ("BODY", "BODYSTRUCTURE"):
                value = body(value)
            elif name == "ANNOTATION":
                entries = [pairs_ordered(one) if isinstance(one, list) else one for one in value]
                value = pairs_ordered(entries)
            elif name == "RFC822.SIZE" or name == "UID":
                value = Atom(value)
            elif "[" in name and not isinstance(value, list) and value.upper() != b"NIL":
                value = value if name.startswith("BINARY.SIZE") else Str(value)
            out[name] = text(value)
            at += 2
        return out


def rights(value):
    """Letters in order; `c` and `d` are RFC 2086's names for parts of k, x, t and e."""
    if b"$" in value:
        return Str(value)
    return Str(bytes(sorted(set(value) - set(b"cd"))))


def original(expunged):
    """Numbers that EXPUNGE told one after the other, as they were before the first of them."""
    gone = []
    for number in expunged:
        for other in sorted(gone):
            if other <= number:
                number += 1
        gone.append(number)
    return sorted(gone)
