"""Runs a Triton for as long as somebody holds the other end of a pipe: no server outlives its parent.

In: a pipe's read end on standard input and the server's command line. Out: the server's exit status.
Started by server/triton/process.py as a process of its own, because the kernel's parent-death signal follows the thread
that started a child, and a Triton may be started from a thread that ends. Standard library only.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 5.0


def main() -> int:
    """Run the command; end it when standard input ends, however the parent ended."""
    kernel = ctypes.CDLL(None)
    own = os.getpid()
    kernel.prctl(PR_SET_CHILD_SUBREAPER, 1)  # the Python stubs of a server that died become ours

    def die_with_guard() -> None:
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own:  # the guard died between fork and prctl
            os._exit(1)

    # One thread only runs here, so code between fork and exec is safe.
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=die_with_guard)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: server.terminate())
    ended = os.pidfd_open(server.pid)
    ready, _, _ = select.select([sys.stdin.fileno(), ended], [], [])
    if ended not in ready:
        server.terminate()
        if not select.select([ended], [], [], GRACE_S)[0]:
            server.kill()
    status = server.wait()
    end_stubs()
    return status


def end_stubs() -> None:
    """End what the server left: its stubs would notice only a second later, and their shared memory would stay."""
    orphans = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    regions = {region for pid in orphans for region in shared_memory_of(pid)}
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)  # still ours to wait for, so the number is nobody else's
        os.waitpid(pid, 0)
    for region in regions:
        region.unlink(missing_ok=True)


def shared_memory_of(pid: int) -> set[Path]:
    """The named regions a stub shares with its server."""
    with contextlib.suppress(OSError):
        maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        return {Path(fields[5]) for fields in maps if fields[5:] and fields[5].startswith("/dev/shm/triton_")}
    return set()


if __name__ == "__main__":
    sys.exit(main())
