#!/usr/bin/env bash
# Guess: once a journal commit has failed, every later fdatasync on the file system
# fails.
# Behaviour: two files grow in one journal transaction. The device fails one flush, so
# the commit fails. The first file's fdatasync says EIO. The other file's first
# fdatasync says success, and after a remount both files are empty.
# Seen with Linux 6.18.44, nbdkit 1.32.5-1: "first: EIO, other: done, sizes: 0 0".
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
packages=(nbdkit=1.32.5-1 nbdkit-plugin-python=1.32.5-1 libnbd-bin=1.14.2-1 fuse3=3.14.0-4)
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${Version}' "${package%=*}" 2>/dev/null || true)" = "${package#*=}" ] || {
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"
        break
    }
done
dir=$(mktemp -d)
loop=
clean() {
    if mountpoint -q "$dir/mount"; then umount "$dir/mount"; fi
    if [ -n "$loop" ]; then losetup -d "$loop"; fi
    fusermount3 -u "$dir/device" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap clean EXIT
cat >"$dir/plugin.py" <<'PYTHON'
import errno, os
import nbdkit
API_VERSION = 2
disk = bytearray(64 << 20)
fail = None
def config(key, value):
    global fail
    fail = value
def open(readonly): return 1
def get_size(h): return len(disk)
def can_flush(h): return True
def can_fua(h): return nbdkit.FUA_EMULATE
def pread(h, buf, offset, flags): buf[:] = disk[offset:offset + len(buf)]
def pwrite(h, buf, offset, flags): disk[offset:offset + len(buf)] = buf
def flush(h, flags):
    if os.path.exists(fail):
        os.unlink(fail)
        nbdkit.set_error(errno.EIO)
        raise RuntimeError("one flush fails")
PYTHON
touch "$dir/device"
mkdir "$dir/mount"
nbdfuse "$dir/device" --command nbdkit -s --exit-with-parent python "$dir/plugin.py" "fail=$dir/fail" &
for _ in $(seq 100); do [ -s "$dir/device" ] && break; sleep 0.1; done
loop=$(losetup -f --show "$dir/device")
mkfs.ext4 -q "$loop"
mount "$loop" "$dir/mount"
sync -f "$dir/mount"
outcomes=$(python3 - "$dir" <<'PYTHON'
import errno, mmap, os, sys
dir = sys.argv[1]
block = mmap.mmap(-1, 4096)
block.write(b"x" * 4096)
def grown(name):
    file = os.open(f"{dir}/mount/{name}", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    os.pwrite(file, block, 0)
    return file
def outcome(file):
    try:
        os.fdatasync(file)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
first, other = grown("first"), grown("other")
open(f"{dir}/fail", "w").close()
print(f"first: {outcome(first)}, other: {outcome(other)}")
PYTHON
)
umount "$dir/mount"
mount "$loop" "$dir/mount"
size() { stat -c %s "$dir/mount/$1" 2>/dev/null || echo 0; }
seen="$outcomes, sizes: $(size first) $(size other)"
uname -r
echo "$seen"
[ "$seen" = "first: EIO, other: done, sizes: 0 0" ]
