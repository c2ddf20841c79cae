#!/usr/bin/env python3
"""A reader of shardwal's files, written from FORMAT.md alone.

It shares no code with the library and no library but zlib's CRC-32. Prints a
record a line, as `shardwal dump` does:

    generation shard sequence key length payload-in-hex

    format_reader.py LOG

It reads a log that is whole: where a frame does not validate it stops reading
that shard, and says so on stderr. It does not decide between a torn tail and
damage.
"""

import os
import struct
import sys
from zlib import crc32

HEADER_BYTES, FRAME_BYTES = 88, 24
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")


def read_manifest(log):
    text = open(os.path.join(log, "MANIFEST"), "rb").read()
    body, crc = text[:-13], text[-13:]
    assert crc == b"crc %08x\n" % crc32(body), "the manifest's checksum"
    lines = body.decode("ascii").splitlines()
    assert lines[0] == "shardwal 1", "the format's version"
    identity = bytes.fromhex(lines[1].removeprefix("log "))
    generations = []
    for line in lines[2:]:
        word, number, shards_word, shards, router_word, router = line.split(" ")
        assert (word, shards_word, router_word) == ("generation", "shards", "router")
        assert router == "fxhash64-high"
        generations.append((int(number), int(shards)))
    return identity, generations


def seed(identity, generation, shard, number):
    return crc32(identity + struct.pack("<IIQ", generation, shard, number))


def read_purge(folder, start):
    """The sequence below which records are gone."""
    content = open(os.path.join(folder, "purge"), "rb").read()
    marks = []
    for offset in (0, 4096):
        slot = content[offset : offset + 32]
        if slot == bytes(32):
            marks.append((0, 0))
        elif slot[:8] == b"purgemrk" and U32.unpack_from(slot, 24)[0] == crc32(slot[:24], start):
            marks.append(struct.unpack_from("<QQ", slot, 8))
    return max(marks)[1]


def read_header(path, expected):
    """(first sequence, predecessor's number, end, next sequence), or None."""
    header = open(path, "rb").read(HEADER_BYTES)
    if len(header) < HEADER_BYTES or header == bytes(HEADER_BYTES):
        return None
    if U32.unpack_from(header, 84)[0] != crc32(header[:84]):
        return None
    magic, version, generation, shard, log, number = struct.unpack_from("<8sIII4x16sQ", header)
    assert (magic, version) == (b"shardwal", 1)
    assert (log, generation, shard, number) == expected, "a foreign segment"
    return struct.unpack_from("<QQQQ", header, 48)


def read_frames(path, start, end):
    """(first sequence less the segment's, body) of each frame of records."""
    content = open(path, "rb").read(end)
    at = HEADER_BYTES
    while len(content) - at >= FRAME_BYTES and content[at : at + FRAME_BYTES] != bytes(FRAME_BYTES):
        header = content[at : at + FRAME_BYTES]
        length, kind, zero, records, first, _lag, body_crc, header_crc = struct.unpack(
            "<IBBHIIII", header
        )
        body = content[at + FRAME_BYTES : at + FRAME_BYTES + length]
        own = crc32(header[:20], crc32(U64.pack(at), start))
        if zero != 0 or own != header_crc or len(body) < length or crc32(body, start) != body_crc:
            print(f"{path}: no frame at byte {at}", file=sys.stderr)
            return
        if kind == 1:
            yield first, records, body
        else:
            # A seal, a gap, or what may be passed over.
            assert kind in (2, 3) or kind & 0x80, "a kind of a later version"
            assert records == 0
        at += FRAME_BYTES + length


def read_records(first, records, body):
    """(sequence less the segment's, key, payload) of each record of a frame."""
    at = 0
    for index in range(records):
        key, length, shift = U64.unpack_from(body, at)[0], 0, 0
        at += 8
        while True:
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield first + index, key, body[at : at + length]
        at += length
    assert at == len(body), "a body is its records and nothing else"


def read_shard(log, identity, generation, shard):
    folder = os.path.join(log, f"generation-{generation:05}", f"shard-{shard:04}")
    purged_below = read_purge(folder, seed(identity, generation, shard, 0))
    numbers = sorted(int(name[:-4]) for name in os.listdir(folder) if name.endswith(".wal"))
    path = lambda number: os.path.join(folder, f"{number:010}.wal")
    expect = lambda number: (identity, generation, shard, number)
    # The newest segment with a header, and back from it.
    while read_header(path(numbers[-1]), expect(numbers[-1])) is None:
        numbers.pop()
    chain, number, end = [], numbers[-1], None
    while True:
        first, before, before_end, before_next = read_header(path(number), expect(number))
        chain.insert(0, (number, first, end))
        if before == 0 or before_next <= purged_below:
            break
        number, end = before, before_end
    for number, base, end in chain:
        start = seed(identity, generation, shard, number)
        for first, records, body in read_frames(path(number), start, end):
            for sequence, key, payload in read_records(base + first, records, body):
                if sequence >= purged_below:
                    print(generation, shard, sequence, key, len(payload), payload.hex())


def main(log):
    identity, generations = read_manifest(log)
    for generation, shards in generations:
        for shard in range(shards):
            read_shard(log, identity, generation, shard)


if __name__ == "__main__":
    main(sys.argv[1])
