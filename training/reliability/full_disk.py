"""
Disks that fill up, folders that cannot be written, and processes with little memory: on Linux, and as root where a
disk is mounted. A process that mounts needs mounts of its own, `unshare -m`, so that nothing stays.
"""

import ctypes
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = resource.getpagesize()
CAN_SKIP_PERMISSIONS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
CAPABILITIES = 0x20080522  # version 3 of the interface


def own_mounts() -> list[str] | None:
    """The words before a command that let it mount disks that only it sees; `None` where nobody may."""
    words = ["unshare", "--mount", "--propagation", "private"]
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        return None
    trial = "mount -t tmpfs -o size=64k tmpfs /mnt"
    return words if subprocess.run([*words, "sh", "-c", trial], capture_output=True).returncode == 0 else None


class Disk:
    """A small disk in memory, at the path `place`, in the block."""

    def __init__(self, place: Path, size: int = 0, inodes: int = 0):
        """`size` in bytes and the number of files and folders; 0: as many as wanted."""
        self.place, self.size, self.inodes = place, size, inodes

    def __enter__(self) -> "Disk":
        self.place.mkdir(parents=True, exist_ok=True)
        self._mount("-t", "tmpfs", "-o", "size=1g,nr_inodes=100000,mode=755", "tmpfs")
        return self

    def __exit__(self, *_) -> None:
        subprocess.run(["umount", "--lazy", str(self.place)], check=True)

    def limit(self) -> None:
        """From now on there is no more room than `size` and `inodes` on top of what is there."""
        status = os.statvfs(self.place)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        size = f",size={max(used + self.size, PAGE)}" if self.size else ""
        inodes = f",nr_inodes={status.f_files - status.f_ffree + self.inodes}" if self.inodes else ""
        self._mount("-o", f"remount{size}{inodes}")

    def free(self) -> None:
        """From now on there is room again."""
        self._mount("-o", "remount,rw,size=1g,nr_inodes=100000")

    def make_read_only(self) -> None:
        self._mount("-o", "remount,ro")

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self.place)], check=True)


def obey_permissions() -> None:
    """From now on this process is refused what a file's mode forbids, root or not; it may still own the files."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the first 32 and the next
    if libc.capget(header, held) == 0:
        held[0] &= ~CAN_SKIP_PERMISSIONS
        held[1] &= ~CAN_SKIP_PERMISSIONS
        libc.capset(header, held)


def limit_memory(more: int) -> None:
    """From now on this process gets so many bytes of memory on top of what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * PAGE + more,) * 2)


def limit_files(size: int) -> None:
    """From now on no file that this process writes may grow larger, in bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
