"""What a store's own server answered (engine/foreign/tests/fixtures), beside what Cursus answers: every column.

Two answers are alike when a client learns the same from them: flags and items come in any order, names may be
quoted, bodies of messages are compared by their SHA-256.
"""

import hashlib
import re

ATOM = re.compile(rb'[^\s()"{}]+(?:\[[^\]]*\])?')
# What the rights of RFC 2086 became in RFC 4314.
OLD_LETTERS = {"c": "kx", "d": "te"}


def tree(text):
    """An answer as nested lists of strings, NIL as "NIL"; literals stand in `text` as they were sent."""
    stack, at = [[]], 0
    while at < len(text):
        byte = text[at:at + 1]
        if byte == b"(":
            stack.append([])
            at += 1
        elif byte == b")":
            inner = stack.pop()
            stack[-1].append(inner)
            at += 1
        elif byte == b'"':
            found = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.S).match(text, at)
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", found[1]))
            at = found.end()
        elif found := re.compile(rb"\{(\d+)\}\r\n").match(text, at):
            at = found.end() + int(found[1])
            stack[-1].append(text[found.end():at])
        elif found := ATOM.match(text, at):
            stack[-1].append(found[0])
            at = found.end()
        else:
            at += 1
    return stack[0]


def plain(part):
    """Strings in place of octets."""
    return [plain(one) for one in part] if isinstance(part, list) else part.decode("utf-8", "surrogateescape")


def rights(letters):
    """Letters in the order of the alphabet, those of RFC 2086 as what took their place."""
    return "".join(sorted(set("".join(OLD_LETTERS.get(one, one) for one in letters))))


def structure(part):
    """A BODYSTRUCTURE as all servers tell it: in lower case, with the defaults that RFC 2045 has, and without
    what stands behind the fields that all have."""
    if isinstance(part[0], list):
        parts = [one for one in part if isinstance(one, list) and is_part(one)]
        return [structure(one) for one in parts] + [part[len(parts)].lower()]
    kind = [one.lower() for one in part[:2]]
    parameters = part[2] if part[2] != "NIL" else []
    if kind[0] == "text" and "charset" not in [one.lower() for one in parameters[::2]]:
        parameters = [*parameters, "charset", "us-ascii"]
    # Courier says 8bit where a message says nothing.
    encoding = "7bit" if part[5].lower() == "8bit" else part[5].lower()
    out = kind + [sorted(one.lower() for one in parameters), part[3], part[4], encoding, part[6]]
    if kind == ["message", "rfc822"]:
        out += [part[7], structure(part[8]), part[9]]
    elif kind[0] == "text":
        out.append(part[7])
    return out


def is_part(one):
    """Whether a list within a multipart is a part, not its parameters."""
    return isinstance(one[0], list) or (len(one) > 6 and isinstance(one[0], str))


def messages(client):
    """All messages of the selected mailbox, by UID, with every column that a manifest has."""
    out = {}
    for one in client.command("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])"):
        if not (found := re.match(rb"\* \d+ FETCH ", one)):
            continue
        [items] = tree(one[found.end():])
        items = dict(zip([name.decode() for name in items[::2]], items[1::2]))
        date = items["INTERNALDATE"].decode()
        out[int(items["UID"])] = {
            "flags": sorted(flag for flag in plain(items["FLAGS"]) if flag != "\\Recent"),
            # Both forms of a day below 10 are RFC 3501's.
            "internaldate": date.replace(" ", "0", 1) if date[0] == " " else date,
            "rfc822.size": int(items["RFC822.SIZE"]),
            "octets": len(items["BODY[]"]),
            "sha256": hashlib.sha256(items["BODY[]"]).hexdigest(),
            "envelope_tree": plain(items["ENVELOPE"]),
            "bodystructure_tree": structure(plain(items["BODYSTRUCTURE"])),
        }
    return out


def told_messages(mailbox):
    """The manifest's messages in the same form."""
    out = {}
    for one in mailbox.get("messages", ()):
        date = one["internaldate"]
        out[one["uid"]] = dict(
            {key: one[key] for key in ("rfc822.size", "octets", "sha256", "envelope_tree")},
            flags=sorted(flag for flag in one["flags"] if flag != "\\Recent"),
            internaldate=date.replace(" ", "0", 1) if date[0] == " " else date,
            bodystructure_tree=structure(one["bodystructure_tree"]))
    return out


def mailbox(client, name):
    """What a client learns of a mailbox but for its messages."""
    quoted = '"' + name + '"'
    out = {"attrs": [], "quota": {}}
    for line in client.ok(f'LIST "" {quoted}')[:-1]:
        words = plain(tree(line))
        out["attrs"], out["sep"] = words[2], words[3]
    if "\\Noselect" in out["attrs"] or "\\NonExistent" in out["attrs"]:
        return out
    for line in client.command(f"GETACL {quoted}")[:-1]:
        words = plain(tree(line))[3:]
        out["acl"] = {who: rights(letters) for who, letters in zip(words[::2], words[1::2])}
    for line in client.command(f"MYRIGHTS {quoted}")[:-1]:
        out["myrights"] = rights(plain(tree(line))[3])
    for line in client.command(f"GETQUOTAROOT {quoted}")[:-1]:
        out["quota"].update(quota(line))
    status = client.command(f"STATUS {quoted} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)")
    if not status[:-1]:
        # No right to read.
        return out
    for line in status[:-1]:
        inner = plain(tree(line))[3]
        out["status"] = dict(zip(inner[::2], inner[1::2]))
    for line in client.ok(f"EXAMINE {quoted}")[:-1]:
        if line.startswith(b"* FLAGS "):
            out["words"] = words_of(line)
    out["messages"] = messages(client)
    return out


def words_of(line):
    """Keywords of a FLAGS answer."""
    line = line.encode() if isinstance(line, str) else line
    return {flag for flag in plain(tree(line)[2]) if not flag.startswith("\\")}


def quota(line):
    """Resource to used and most, of a QUOTA answer."""
    line = line.encode() if isinstance(line, str) else line
    words = plain(tree(line))
    if words[1] != "QUOTA" or not isinstance(words[-1], list):
        return {}
    inner = words[-1]
    return {inner[i]: (int(inner[i + 1]), int(inner[i + 2])) for i in range(0, len(inner), 3)}


def told_mailbox(wanted):
    """The manifest's mailbox in the same form; what it does not have is not there."""
    out = {"attrs": wanted["attrs"], "quota": {}}
    if "acl" in wanted:
        pairs = wanted["acl"]
        out["acl"] = {who: rights(letters) for who, letters in zip(pairs[::2], pairs[1::2])}
    if "status" not in wanted:
        return out
    out["myrights"] = rights(wanted["myrights"])
    for line in wanted.get("quota", ()):
        out["quota"].update(quota(line))
    out["status"] = {key: value for key, value in wanted["status"].items() if key != "MAILBOXID"}
    for line in wanted["examine"]:
        if line.startswith("* FLAGS "):
            out["words"] = words_of(line)
    out["messages"] = told_messages(wanted)
    return out
