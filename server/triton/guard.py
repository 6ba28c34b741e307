"""Runs one command for as long as somebody holds the other end of a pipe: no server outlives its parent.

In: a pipe's read end on standard input and a command line. Out: the command's exit status.
Started by server/triton/process.py as a process of its own, because the kernel's parent-death signal follows the thread
that started a child, and the gateway starts Triton from threads that end. Standard library only.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
GRACE_S = 5.0


def main() -> int:
    """Run the command after `shm_prefix`; end it when standard input does, however the parent ended."""
    shm_prefix, *command = sys.argv[1:]
    kernel = ctypes.CDLL(None)
    own = os.getpid()

    def die_with_guard() -> None:
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own:  # the guard died between fork and prctl
            os._exit(1)

    # One thread only runs here, so code between fork and exec is safe.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_guard)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: server.terminate())
    ended = os.pidfd_open(server.pid)
    try:
        ready, _, _ = select.select([sys.stdin.fileno(), ended], [], [])
        if ended not in ready:
            server.terminate()
            server.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        server.kill()
    status = server.wait()
    # A killed server leaves its shared memory behind; the prefix is this server's alone.
    for region in Path("/dev/shm").glob(f"{shm_prefix}*"):
        region.unlink(missing_ok=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
