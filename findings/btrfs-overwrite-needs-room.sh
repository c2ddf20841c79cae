#!/usr/bin/env bash
# Guess: writing over bytes that a file has already needs no room.
# Behaviour: btrfs writes every block to a new place, so on a full file system the
# write fails with ENOSPC. A rename of the same file works: it needs no data block.
# Seen with btrfs-progs 6.2-1+deb12u2, Linux 6.18.44: "overwrite: ENOSPC, rename: done".
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
[ "$(dpkg-query -W -f '${Version}' btrfs-progs 2>/dev/null || true)" = 6.2-1+deb12u2 ] || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends btrfs-progs=6.2-1+deb12u2
}
dir=$(mktemp -d)
clean() { mountpoint -q "$dir/mount" && umount "$dir/mount"; rm -rf "$dir"; }
trap clean EXIT
truncate -s 256M "$dir/image"
mkfs.btrfs -q "$dir/image"
mkdir "$dir/mount"
mount -o loop "$dir/image" "$dir/mount"
cd "$dir/mount"
dd if=/dev/urandom of=mark bs=8K count=1 conv=fsync status=none
for size in 1M 4K; do dd if=/dev/urandom of="filler$size" bs=$size conv=fsync status=none 2>/dev/null || true; done
sync
seen=$(python3 - <<'PYTHON'
import errno, os
def outcome(call):
    try:
        call()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
file = os.open("mark", os.O_RDWR)
def overwrite():
    os.pwrite(file, b"x" * 4096, 4096)
    os.fdatasync(file)
overwritten = outcome(overwrite)
print(f"overwrite: {overwritten}, rename: {outcome(lambda: os.rename('mark', 'mark-2'))}")
PYTHON
)
cd /
uname -r
echo "$seen"
[ "$seen" = "overwrite: ENOSPC, rename: done" ]
