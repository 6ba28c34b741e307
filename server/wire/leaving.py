"""A process leaves a port that others go on serving, and no client of it notices.

In: the port. Out: no new connection comes here, and those that stand are waited for. Called by server/serving.py.

A server of gRPC that is shut down refuses the calls that are on their way before its clients have read that they must
go: CANCELLED, which no retry policy repeats; two to four a restart at 6,000 calls/s. So a worker that is replaced first
takes itself off the port, and is shut down once every client has left by itself, asked to by its connection's age.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

LOOKS_EVERY_S = 0.1
ESTABLISHED = 1  # of enum tcp states in Linux's include/net/tcp_states.h


def sockets_of(port: int) -> Iterator[socket.socket]:
    """This process's TCP sockets with this port on our side, listening ones too; each is closed when the next is asked.

    Each is a duplicate, so that nothing happens to the connection when it is closed.
    """
    for number in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the number may be closed by now
            if not str(number.readlink()).startswith("socket:"):
                continue
            with closing(socket.socket(fileno=os.dup(int(number.name)))) as found:
                is_tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
                if is_tcp and found.getsockname()[1] == port:
                    yield found


def take_off(port: int) -> None:
    """Take no new connection: the kernel gives them to the port's other listeners."""
    for found in sockets_of(port):
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.shutdown(socket.SHUT_RDWR)


def n_connections(port: int) -> int:
    """Connections of clients that stand."""
    return sum(_state(found) == ESTABLISHED for found in sockets_of(port))


def _state(found: socket.socket) -> int:
    return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def leave(port: int, within_s: float, is_hurried: Callable[[float], object]) -> int:
    """Take no new connection, then wait until no client is left.

    within_s    the longest wait
    is_hurried  waits for so many seconds at most; true ends the wait at once
    returns     connections that still stand: streams that nobody ends
    """
    take_off(port)
    by_s = time.monotonic() + within_s
    while (n_left := n_connections(port)) and time.monotonic() < by_s:
        if is_hurried(LOOKS_EVERY_S):
            break
    return n_left
