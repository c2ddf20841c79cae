#!/usr/bin/env python3
"""Reads images of logs on stdin, and prints the result of `format_reader.py` for each.

`mod.rs` in this directory writes the images and describes the framing.
"""

import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from format_reader import NoLog, Refused, read_log

U32, ENTRY = struct.Struct("<I"), struct.Struct("<HBI")
ROW = struct.Struct("<IIQQI")


class Image:
    """The files of a log in memory. Has the methods of `format_reader.Directory`."""

    def __init__(self, files, folders):
        self.files, self.names = files, {}
        for path in [*files, *folders]:
            while path:
                folder, _, name = path.rpartition("/")
                self.names.setdefault(folder, set()).add(name)
                path = folder

    def read(self, *names):
        return self.files.get("/".join(names))

    def list(self, *names):
        return self.names.get("/".join(names), ())


def next_image(stream):
    """The next image, or None at the end of the stream."""
    head = stream.read(U32.size)
    if not head:
        return None
    data, at, files, folders = stream.read(*U32.unpack(head)), 0, {}, []
    while at < len(data):
        path_bytes, is_file, file_bytes = ENTRY.unpack_from(data, at)
        at += ENTRY.size
        path = data[at : at + path_bytes].decode()
        at += path_bytes
        if is_file:
            files[path] = data[at : at + file_bytes]
        else:
            folders.append(path)
        at += file_bytes
    return Image(files, folders)


def opinion(image):
    try:
        rows = read_log(image)
    except Refused as why:
        return b"R" + str(why).encode()
    except NoLog:
        return b"N"
    return b"L" + b"".join(ROW.pack(*row[:4], len(row[4])) + row[4] for row in rows)


while (image := next_image(sys.stdin.buffer)) is not None:
    answer = opinion(image)
    sys.stdout.buffer.write(U32.pack(len(answer)) + answer)
    sys.stdout.buffer.flush()
