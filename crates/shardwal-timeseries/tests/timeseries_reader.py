"""A reader of time series batches, written from FORMAT.md alone.

python3 timeseries_reader.py FILE

FILE holds batches, each after its length in four bytes. Prints one line per sample: the
XXH64 of its labels, the bits of its value, its time. For a histogram, its bytes are in place of
the value.
"""

import struct
import sys
import zlib

M = (1 << 64) - 1
STALE = 0x7FF0000000000002


def signed(n):
    n &= M
    return n - (1 << 64) if n >> 63 else n


def unzigzag(n):
    return signed(n >> 1 ^ -(n & 1))


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        n = shift = 0
        while True:
            b = self.byte()
            n |= (b & 0x7F) << shift
            shift += 7
            if b < 0x80:
                return n


class Strings:
    def __init__(self):
        self.texts, self.last = [], None

    def read(self, b):
        code = b.varint()
        if code == 0:
            shared = b.byte()
            rest = b.take(b.varint())
            before = b"" if self.last is None else self.texts[self.last]
            self.texts.append(before[:shared] + rest)
            self.last = len(self.texts) - 1
        else:
            self.last = (self.last or 0) + unzigzag(code - 1)
        return self.last


class Definitions:
    def __init__(self):
        self.names, self.values, self.shapes = Strings(), [], []

    def read(self, b):
        code = b.varint()
        if code == 0:
            self.__init__()
            code = b.varint()
        if code - 1 == len(self.shapes):
            shape = []
            for _ in range(b.varint()):
                shape.append(self.names.read(b))
                while len(self.values) < len(self.names.texts):
                    self.values.append(Strings())
            self.shapes.append(shape)
        shape = self.shapes[code - 1]
        for at in range(0, max(len(shape), 1), 64):
            told = b.varint()
            for i, name in enumerate(shape[at : at + 64]):
                if told >> i & 1:
                    self.values[name].read(b)
        return [(self.names.texts[n], self.values[n].texts[self.values[n].last]) for n in shape]


class Series:
    def __init__(self, labels, after):
        self.id, self.after, self.last = xxh64(canonical(labels)), after, None
        self.time_step = 0
        self.bits = self.integer = self.step = self.exponent = self.trend = 0

    def become(self, bits, exponent=None, integer=0):
        self.bits, self.exponent, self.integer, self.step, self.trend = bits, exponent, integer, 0, 0

    def next(self, difference):
        if self.exponent is None:
            self.bits ^= difference
            return
        integer = signed(self.integer + (self.step if self.trend > 0 else 0) + unzigzag(difference))
        step = signed(integer - self.integer)
        line, last = abs(signed(step - self.step)), abs(step)
        self.trend = max(-3, min(3, self.trend + (line < last) - (line > last)))
        self.integer, self.step = integer, step
        self.bits = double(integer, self.exponent)


def double(integer, exponent):
    value = float(integer) / float(10**exponent)
    return struct.unpack("<Q", struct.pack("<d", value))[0]


class Reader:
    def batch(self, data):
        b = Bytes(data)
        kind = b.byte()
        if kind & 0x80:
            return
        if kind in (1, 3):
            self.check, self.definitions, self.series = 0, Definitions(), []
            self.previous = self.expected = self.time = 0
        else:
            assert kind in (2, 4)
            assert struct.unpack("<I", b.take(4))[0] == self.check
        while b.at < len(data):
            yield from self.block(b, kind >= 3)
        self.check = zlib.crc32(data, self.check)

    def block(self, b, histograms):
        count = b.varint()
        if count == 0:
            assert histograms
            yield from self.histograms(b)
            return
        references, times = self.references_and_times(b, count)
        for reference, time, bits in zip(references, times, self.values(b, references)):
            yield self.series[reference].id, f"{bits:016x}", time

    def histograms(self, b):
        for reference, time in zip(*self.references_and_times(b, b.varint())):
            yield self.series[reference].id, b.take(b.varint()).hex(), time

    def references_and_times(self, b, count):
        assert 1 <= count <= 4096
        new = b.varint()
        for _ in range(new):
            self.series.append(Series(self.definitions.read(b), len(self.series) + 1))
        references = self.references(b, count)
        return references, self.times(b, references)

    def references(self, b, count):
        found = []

        def step(reference):
            if found:
                self.series[self.previous].after = reference
            found.append(reference)
            self.previous, self.expected = reference, self.series[reference].after

        while True:
            for _ in range(b.varint()):
                step(self.expected)
            if len(found) == count:
                return found
            for _ in range(b.varint()):
                step(self.expected + unzigzag(b.varint()))
            if len(found) == count:
                return found

    def times(self, b, references):
        found = []
        while len(found) < len(references):
            head = b.varint()
            for _ in range(head >> 2):
                s = self.series[references[len(found)]]
                expected = self.time if s.last is None else signed(s.last + s.time_step)
                if head & 3 == 0:
                    time = self.time
                else:
                    time = expected if head & 3 == 1 else signed(expected + unzigzag(b.varint()))
                s.time_step = 0 if s.last is None else signed(time - s.last)
                s.last = self.time = time
                found.append(time)
        return found

    def values(self, b, references):
        found = []
        while len(found) < len(references):
            token = b.byte()
            hits = token >> 4
            if hits == 15:
                hits += b.varint()
            for _ in range(hits):
                s = self.series[references[len(found)]]
                s.next(0)
                found.append(s.bits)
            what = token & 15
            if what == 0:
                assert len(found) == len(references)
                return found
            s = self.series[references[len(found)]]
            if what <= 8:
                s.next(int.from_bytes(b.take(what), "little"))
            elif what == 9:
                exponent = b.byte()
                integer = unzigzag(b.varint())
                s.become(double(integer, exponent), exponent, integer)
            elif what == 10:
                s.become(int.from_bytes(b.take(8), "little"))
            else:
                assert what == 11
                s.become(STALE)
            found.append(s.bits)
        return found


def canonical(labels):
    out = b""
    for text in (text for label in labels for text in label):
        n = len(text)
        while n >= 64:
            out += bytes([0x40 | n & 0x3F])
            n >>= 6
        out += bytes([n]) + text
    return out


P = [0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5]


def rotl(n, by):
    return (n << by | n >> 64 - by) & M


def xxh64(data):
    def mix(lane, word):
        return rotl((lane + word * P[1]) & M, 31) * P[0] & M

    at, end = 0, len(data)
    h = P[4]
    if end >= 32:
        lanes = [P[0] + P[1] & M, P[1], 0, -P[0] & M]
        while end - at >= 32:
            words = struct.unpack_from("<4Q", data, at)
            lanes = [mix(lane, word) for lane, word in zip(lanes, words)]
            at += 32
        h = sum(rotl(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18))) & M
        for lane in lanes:
            h = ((h ^ mix(0, lane)) * P[0] + P[3]) & M
    h = h + end & M
    while end - at >= 8:
        h = (rotl(h ^ mix(0, struct.unpack_from("<Q", data, at)[0]), 27) * P[0] + P[3]) & M
        at += 8
    if end - at >= 4:
        h = (rotl(h ^ struct.unpack_from("<I", data, at)[0] * P[0] & M, 23) * P[1] + P[2]) & M
        at += 4
    for byte in data[at:]:
        h = rotl(h ^ byte * P[4] & M, 11) * P[0] & M
    h = (h ^ h >> 33) * P[1] & M
    h = (h ^ h >> 29) * P[2] & M
    return h ^ h >> 32


def main():
    data = open(sys.argv[1], "rb").read()
    reader, at = Reader(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        for series, value, time in reader.batch(data[at - length : at]):
            print(f"{series:016x} {value} {time}")


main()
