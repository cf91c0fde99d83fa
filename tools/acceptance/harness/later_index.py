"""`cyrus.index` of version 17, which Debian's Cyrus writes, as later releases lay it out: 18 and 19 (3.10, 3.12), 20 (3.13).

Offsets are those of the releases' headers; the same table, to be read, is in engine/foreign/src/cyrus/index.rs.
"""

import struct
import zlib

HEADER, RECORD = 160, 112
EXPUNGED, DELETED = 1 << 31, 1 << 2
SECOND = 1_000_000_000


def crc(part):
    return part + struct.pack(">I", zlib.crc32(part))


def converted(old, minor, told=None):
    """The file in version `minor`, which its header calls `told`: one release wrote 19 into those of 20."""
    if struct.unpack_from(">I", old, 8)[0] != 17:
        return old
    count = struct.unpack_from(">I", old, 20)[0]
    records = [old[HEADER + n * RECORD:HEADER + (n + 1) * RECORD] for n in range(count)]
    whole = {18: header_18, 19: header_19, 20: header_20}[minor](old, *octets(records))
    whole = bytearray(whole)
    size = 144 if minor == 20 else RECORD
    struct.pack_into(">III", whole, 8, told or minor, 192 if minor == 20 else HEADER, size)
    out = [crc(bytes(whole))]
    for one in records:
        out.append(crc(record_20(one)) if minor == 20 else one)
    return b"".join(out)


def octets(records):
    """Of messages with \\Deleted, and of expunged ones."""
    deleted = expunged = 0
    for one in records:
        size, flags = struct.unpack_from(">I", one, 12)[0], struct.unpack_from(">I", one, 32)[0]
        if flags & EXPUNGED:
            expunged += size
        elif flags & DELETED:
            deleted += size
    return deleted, expunged


def header_18(old, deleted, expunged):
    return old[:140] + struct.pack(">QQ", deleted, expunged)


def header_19(old, deleted, expunged):
    out = bytearray(156)
    out[:60] = old[:60]
    out[60:64], out[64:72], out[72:80], out[80:88] = old[84:88], old[60:68], old[68:76], old[76:84]
    # First expunged to unseen, at the places that they had.
    out[88:128] = old[88:128]
    out[128:136] = old[128:136]
    struct.pack_into(">QQ", out, 136, deleted, expunged)
    out[152:156] = old[136:140]
    return bytes(out)


def header_20(old, deleted, expunged):
    word = lambda at: struct.unpack_from(">I", old, at)[0]
    out = bytearray(188)
    out[:24] = old[:24]
    for at, before in ((24, 24), (40, 40), (104, 108), (112, 112), (160, 136), (168, 88), (176, 92)):
        struct.pack_into(">Q", out, at, word(before) * SECOND)
    out[32:40] = old[32:40]
    out[48:60], out[60:64], out[64:72] = old[48:60], old[84:88], old[60:68]
    out[72:80], out[80:88] = old[68:76], old[76:84]
    out[88:92], out[92:96], out[96:104] = old[28:32], old[44:48], old[96:104]
    out[120:128], out[128:136] = old[120:128], old[128:136]
    struct.pack_into(">QQQ", out, 136, deleted, expunged, word(116))
    out[184:188] = old[104:108]
    return bytes(out)


def record_20(old):
    word = lambda at: struct.unpack_from(">I", old, at)[0]
    out = bytearray(140)
    out[0:4], out[4:8] = old[0:4], old[24:28]
    for at, before in ((8, 4), (16, 8), (104, 20), (112, 28), (120, 52)):
        struct.pack_into(">Q", out, at, word(before) * SECOND)
    struct.pack_into(">Q", out, 24, word(12))
    out[32:36], out[36:40], out[40:56] = old[16:20], old[32:36], old[36:52]
    out[56:60], out[60:80], out[80:104] = old[56:60], old[60:80], old[80:104]
    out[136:140] = old[104:108]
    return bytes(out)
