"""An nbdkit plugin: a device in memory that logs each write and flush.

`logged_device.rs` reads the log. An entry is its kind, the offset (u64), the number of
bytes (u32) and the bytes. The kind is `W` for a write, `U` for a write that is durable at
once, and `F` for a flush.
"""

import os
import struct

import nbdkit

API_VERSION = 2
ENTRY = struct.Struct("<cQI")
settings = {}
content = bytearray()
log = -1


def config(key, value):
    settings[key] = value


def get_ready():
    global content, log
    content = bytearray(int(settings["mib"]) << 20)
    log = os.open(settings["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def open(_readonly):
    return 1


def get_size(_handle):
    return len(content)


def can_fua(_handle):
    return nbdkit.FUA_NATIVE


def pread(_handle, buffer, offset, _flags):
    buffer[:] = content[offset : offset + len(buffer)]


def pwrite(_handle, buffer, offset, flags):
    kind = b"U" if flags & nbdkit.FLAG_FUA else b"W"
    content[offset : offset + len(buffer)] = buffer
    os.writev(log, [ENTRY.pack(kind, offset, len(buffer)), buffer])


def flush(_handle, _flags):
    os.write(log, ENTRY.pack(b"F", 0, 0))
