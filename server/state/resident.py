"""Keeps down what the store's mapped file counts as this process's memory.

In: a file that is mapped for reading. Out: its pages given back to the page cache. Used by server/state/embedded.py.

Whatever LMDB reads stays mapped, and the kernel maps 64 KiB around each page that is asked for: after 200,000 reads in
a store of a million shoppers a worker counted 7.6 GB. A page given back stays in the page cache, which all share; who
reads it again takes a fault of about a microsecond and gets the same bytes, whichever thread reads meanwhile.
What it costs, at random over a million shoppers: 5 us a row more, 15 where the kernel has no WP_ASYNC (before 6.7).
"""

import ctypes
import fcntl
import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 2**20
# Rows between two looks at the memory: it may grow by 64 MiB meanwhile where pages come 64 KiB at a time.
LOOK_EVERY = 512
# linux/userfaultfd.h
SYSCALLS = {"x86_64": 323, "aarch64": 282}
USER_MODE_ONLY, API, WP_ASYNC, MODE_WP = 1, 0xAA, 1 << 15, 2
UFFDIO_API, UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00


class Resident:
    """The mapped pages of one file, counted now and then."""

    def __init__(self, file: Path, most_mib: int) -> None:
        """Bound the pages of a file that is mapped already.

        most_mib  from which on all are given back
        """
        self._most_pages = most_mib * MIB // PAGE_BYTES
        self._ranges = _ranges(file)
        self._kernel = ctypes.CDLL(None, use_errno=True)
        self._kernel.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._files = [os.open("/proc/self/statm", os.O_RDONLY)]
        with suppress(OSError, KeyError):  # an older kernel, or one that forbids it: the same at a higher price
            self._files.append(self._page_by_page())
        self._n_other_pages = self._n_file_pages()
        self._n_reads = 0
        self.n_trims = 0

    def _page_by_page(self) -> int:
        """Have the kernel map the page that is asked for and none around it; returns the file that keeps it so.

        The kernel leaves the neighbours out where a userfaultfd watches, and this one never watches anything.
        raises  OSError, KeyError  where there is no such thing
        """
        number = SYSCALLS[os.uname().machine]
        opened = int(self._kernel.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | USER_MODE_ONLY))
        if opened < 0:
            raise _error()
        try:
            fcntl.ioctl(opened, UFFDIO_API, bytearray(struct.pack("QQQ", API, WP_ASYNC, 0)))
            for start, size in self._ranges:
                fcntl.ioctl(opened, UFFDIO_REGISTER, bytearray(struct.pack("QQQQ", start, size, MODE_WP, 0)))
        except OSError:
            os.close(opened)
            raise
        return opened

    def _n_file_pages(self) -> int:
        """Pages of files that count as ours, libraries among them."""
        return int(os.pread(self._files[0], 256, 0).split()[2])

    def read(self, n_rows: int) -> None:
        """Count rows read, and give the pages back where they have become too many; from any thread."""
        self._n_reads += n_rows
        if self._n_reads < LOOK_EVERY:
            return
        self._n_reads = 0
        if self._n_file_pages() - self._n_other_pages > self._most_pages:
            self.trim()

    def trim(self) -> None:
        """Give all pages back.

        raises  OSError  if the kernel refuses
        """
        for start, size in self._ranges:
            if self._kernel.madvise(start, size, mmap.MADV_DONTNEED):
                raise _error()
        self.n_trims += 1

    def close(self) -> None:
        """Count no more."""
        for file in self._files:
            os.close(file)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _ranges(file: Path) -> list[tuple[int, int]]:
    """Start and size of each of our read-only mappings of a file: given back, a writable one could lose changes."""
    wanted, ranges = str(file.resolve()), []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == wanted and fields[1].startswith("r--s"):
            first, _, last = fields[0].partition("-")
            ranges.append((int(first, 16), int(last, 16) - int(first, 16)))
    return ranges
