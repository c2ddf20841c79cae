#!/usr/bin/env python3
"""A reader of shardwal's files, written from FORMAT.md alone.

It shares no code with the library and uses no library but zlib's CRC-32.

Prints the records of a log, one per line, as `shardwal dump` does:

    generation shard sequence key length payload-in-hex

    format_reader.py LOG

`tests/second_opinion` compares it with the library on many logs. Each function follows one
section of FORMAT.md. `Refused` covers every case in which FORMAT.md says that a reader
reports corruption or refuses the log.
"""

import os
import re
import struct
import sys
from zlib import crc32

HEADER_BYTES, FRAME_BYTES = 88, 24
RECORDS, SEAL, GAP = 1, 2, 3
NUMBER_MAX = 1 << 62
GIVEN_UP = (1 << 64) - 1
NO_MARK = (1 << 32) - 1
BODY_MAX = (64 << 20) + 13 * 65_535
PURGE_NAME = re.compile(r"(purge-[01]-([0-9a-f]{16})-([0-9a-f]{16}))-([0-9a-f]{8})")
SEGMENT_NAME = re.compile(r"(\d{10,})\.wal")
GENERATION_NAME = re.compile(r"generation-\d{5,}")
# Positions where a valid frame header may begin: the highest byte of its length, its
# kind, and the zero.
HEADER_HINT = re.compile(rb"(?=...[\x00-\x04][\x01-\x03]\x00)", re.S)
FRAME = struct.Struct("<IBBHIII")
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")


class Refused(Exception):
    """The log is corrupted, or a later version wrote it."""


class NoLog(Exception):
    """There is no log in the directory."""


class Directory:
    """The files of a log, by their names below its directory."""

    def __init__(self, root):
        self.root = root

    def read(self, *names):
        """The bytes of a file; None if there is no such file."""
        try:
            with open(os.path.join(self.root, *names), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def list(self, *names):
        """The names in a folder, none if there is no such folder."""
        try:
            return os.listdir(os.path.join(self.root, *names))
        except FileNotFoundError:
            return []


# Manifest


def read_manifest(log):
    """The log's id, and the number and shards of each generation."""
    text = log.read("MANIFEST")
    if text is None:
        if any(GENERATION_NAME.fullmatch(name) for name in log.list()):
            raise Refused("generations without a manifest")
        raise NoLog
    body, crc = text[:-13], text[-13:]
    if len(text) > 64 << 20 or crc != b"crc %08x\n" % crc32(body):
        raise Refused("the manifest's checksum")
    first, identity, *lines = body.decode("ascii").splitlines()
    if first != "shardwal 1" or not identity.startswith("log "):
        raise Refused("the manifest's first lines")
    generations = []
    for line in lines:
        match = re.fullmatch(r"generation (\d+) shards (\d+) router fxhash64-high", line)
        if not match:
            raise Refused(f"a line of a later version: {line}")
        generations.append((int(match[1]), int(match[2])))
    numbers = [number for number, _ in generations]
    if numbers != sorted({number for number in numbers if number > 0}):
        raise Refused("generations out of order")
    if any(not 1 <= shards <= 1024 for _, shards in generations):
        raise Refused("a number of shards that cannot be")
    return bytes.fromhex(identity.removeprefix("log ")), generations


def check_manifest_is_latest(log, generations):
    """Refuses a manifest that does not name the last generation of the log."""
    after = generations[-1][0] + 1 if generations else 1
    folder = f"generation-{after:05}"
    for shard in log.list(folder):
        for name in log.list(folder, shard):
            number = segment_number(name)
            if number and (number > 1 or len(log.read(folder, shard, name)) > 112):
                raise Refused(f"the manifest does not name generation {after}")


# Truncation mark file and segment header


def seed(identity, generation, shard, number):
    return crc32(identity + struct.pack("<IIQ", generation, shard, number))


def read_purge(content, names, start):
    """The sequence below which records are gone."""
    if content is None:
        raise Refused("no purge file")
    marks = []
    for offset in (0, 4096):
        slot = content[offset : offset + 32].ljust(32, b"\0")
        if slot == bytes(32):
            marks.append((0, 0))
        elif slot[:8] == b"purgemrk" and U32.unpack_from(slot, 24)[0] == crc32(slot[:24], start):
            marks.append(struct.unpack_from("<QQ", slot, 8))
    if not marks:
        raise Refused("neither purge mark can be read")
    for name in names:
        said = PURGE_NAME.fullmatch(name)
        if said and int(said[4], 16) == crc32(said[1].encode(), start):
            epoch, below = int(said[2], 16), int(said[3], 16)
            if epoch <= NUMBER_MAX and (below <= NUMBER_MAX or below == GIVEN_UP):
                marks.append((epoch, below))
    return max(marks)[1]


def segment_number(name):
    match = SEGMENT_NAME.fullmatch(name)
    return int(match[1]) if match else None


def read_header(content, expected):
    """(first sequence, predecessor's number, end, next sequence), or None."""
    header = content[:HEADER_BYTES]
    if len(header) < HEADER_BYTES or header[:8] != b"shardwal":
        return None
    if U32.unpack_from(header, 84)[0] != crc32(header[:84]):
        return None
    version, generation, shard, log, number = struct.unpack_from("<III4x16sQ", header, 8)
    if version != 1:
        raise Refused(f"a segment of format version {version}")
    if (log, generation, shard, number) != expected:
        raise Refused("another segment's header")
    first, before, end, next_sequence = struct.unpack_from("<QQQQ", header, 48)
    if max(first, end, next_sequence) > NUMBER_MAX:
        return None
    return first, before, end, next_sequence


# Frames


def frame_header(content, at, start):
    """The fields of the frame header at an offset; None if it does not validate."""
    header = content[at : at + FRAME_BYTES]
    if len(header) < FRAME_BYTES:
        return None
    fields = FRAME.unpack_from(header)
    own = crc32(header[:20], crc32(U64.pack(at), start))
    return fields if fields[2] == 0 and own == U32.unpack_from(header, 20)[0] else None


def highest_mark(content, start, base, at):
    """The highest durable mark of the frame headers at every offset from `at`."""
    highest = 0
    for hint in HEADER_HINT.finditer(content, at):
        fields = frame_header(content, hint.start(), start)
        if not fields:
            continue
        length, kind, _, records, first, lag, body_crc = fields
        if kind == RECORDS:
            believed = 0 < records and 9 * records <= length <= BODY_MAX
        else:
            believed = records == 0 and length == 0 and body_crc == start
        if believed and lag != NO_MARK:
            highest = max(highest, base + first - lag)
    return highest


def read_records(first, records, body):
    """(sequence, key, payload) of each record; None if the body does not parse."""
    at, found = 0, []
    for index in range(records):
        if len(body) - at < 9:
            return None
        key, length, shift = U64.unpack_from(body, at)[0], 0, 0
        at += 8
        while True:
            if at >= len(body) or shift > 28:
                return None
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if len(body) - at < length:
            return None
        found.append((first + index, key, body[at : at + length]))
        at += length
    return found if records and at == len(body) else None


class Segment:
    """The frames of a segment, up to `end` or to the first invalid frame."""

    def __init__(self, content, start, base, next_sequence, end):
        self.content, self.start, self.base = content, start, base
        self.next, self.mark, self.records = next_sequence, 0, []
        # True if the scan stopped at the end of the file or at zeros; else the last
        # write is torn.
        self.blank = False
        self.at = HEADER_BYTES
        while self.read_frame(min(end, len(content))):
            pass

    def read_frame(self, end):
        content, at = self.content, self.at
        if not any(content[at : min(at + FRAME_BYTES, end)]):
            self.blank = True
            return False
        fields = frame_header(content, at, self.start) if end - at >= FRAME_BYTES else None
        if not fields:
            return False
        length, kind, _, records, first, lag, body_crc = fields
        if kind not in (RECORDS, SEAL, GAP) and kind < 0x80:
            raise Refused(f"a frame of kind {kind}, a later version's")
        body = content[at + FRAME_BYTES : at + FRAME_BYTES + length]
        if length > BODY_MAX or at + FRAME_BYTES + length > end or crc32(body, self.start) != body_crc:
            return False
        if self.base + first < self.next:
            return False
        if kind == RECORDS:
            found = read_records(self.base + first, records, body)
            if found is None:
                return False
            self.records += found
        elif kind < 0x80 and (records or length):
            return False
        if kind in (RECORDS, GAP):
            self.next = self.base + first + records
        if lag != NO_MARK:
            self.mark = max(self.mark, self.base + first - lag)
        self.at = at + FRAME_BYTES + length
        return True


# Reading a shard


class Shard:
    def __init__(self, log, identity, generation, shard):
        self.folder = (f"generation-{generation:05}", f"shard-{shard:04}")
        self.log, self.identity = log, (identity, generation, shard)
        purge = log.read(*self.folder, "purge")
        start = seed(identity, generation, shard, 0)
        self.purged_below = read_purge(purge, log.list(*self.folder), start)
        self.is_given_up = self.purged_below == GIVEN_UP
        # (sequence, key, payload); steps 1 to 4 of FORMAT.md.
        self.records = [] if self.is_given_up else self.read()

    def content(self, number):
        return self.log.read(*self.folder, f"{number:010}.wal")

    def read(self):
        numbers = sorted(filter(None, map(segment_number, self.log.list(*self.folder))))
        chain, mark = self.chain(numbers)
        records, next_sequence = [], 0
        for at, (number, header, content) in enumerate(chain):
            base, start = header[0], seed(*self.identity, number)
            successor = chain[at + 1][1] if at + 1 < len(chain) else None
            end = successor[2] if successor else len(content)
            segment = Segment(content, start, base, max(base, next_sequence), end)
            records += segment.records
            next_sequence, mark = segment.next, max(mark, segment.mark)
            if successor and successor[3] == next_sequence:
                continue
            # The verdict. Bytes behind the end may say that more records were durable.
            mark = max(mark, highest_mark(content, start, base, segment.at))
            for number, header, content in chain[at + 1 :]:
                start = seed(*self.identity, number)
                mark = max(mark, highest_mark(content, start, header[0], HEADER_BYTES))
            if mark > next_sequence:
                raise Refused(f"durable below {mark}, and {next_sequence} cannot be read")
            break
        return [record for record in records if record[0] >= self.purged_below]

    def chain(self, numbers):
        """The segments, oldest first, and the highest mark of the omitted ones."""
        highest = 0
        while numbers:
            chain, number = [], numbers[-1]
            while True:
                content = self.content(number)
                header = read_header(content, (*self.identity, number))
                if header is None:
                    break
                chain.insert(0, (number, header, content))
                before, before_next = header[1], header[3]
                if before == 0 or before_next <= self.purged_below:
                    return chain, highest
                if before >= number or before not in numbers:
                    raise Refused(f"segment {before} is missing")
                number = before
            # This segment and those that led here never reached the disk completely.
            if highest_mark(content, seed(*self.identity, number), 0, 0) > 0:
                raise Refused(f"segment {number} has no header, and was durable")
            for later, header, content in chain:
                start = seed(*self.identity, later)
                highest = max(highest, highest_mark(content, start, header[0], 0))
            numbers = [lower for lower in numbers if lower < number]
        raise Refused("no segment is left")


def read_log(log):
    """(generation, shard, sequence, key, payload) of each record."""
    identity, generations = read_manifest(log)
    rows = []
    for generation, shards in generations:
        for number in range(shards):
            shard = Shard(log, identity, generation, number)
            if shard.is_given_up and generation == generations[-1][0]:
                raise Refused("the last generation is marked as replaced by a later one")
            rows += [(generation, number, *record) for record in shard.records]
    check_manifest_is_latest(log, generations)
    return rows


def main():
    try:
        for generation, shard, sequence, key, payload in read_log(Directory(sys.argv[1])):
            print(generation, shard, sequence, key, len(payload), payload.hex())
    except (Refused, NoLog) as why:
        sys.exit(f"refused: {why!r}")


if __name__ == "__main__":
    main()
