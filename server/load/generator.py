"""`python -m server.load.generator N`: one generator of an open loop, a process of its own that file N connects.

In: Work over the connection, then the moment to begin. Out: its Part, or the sentence that says why there is none.
Started by open_loop.py.
"""

import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

from server.load import aio_caller, wire_caller
from server.load.calls import Begin, Client, Part, Work
from server.load.target import LoadFailed

CALLERS: Mapping[Client, Callable[[Work, Begin], Part]] = {
    "wire": wire_caller.generated,
    "grpc.aio": aio_caller.generated,
}


def generate(pipe: Connection) -> None:
    """Connect, wait for the moment, send, tell."""
    work: Work = pipe.recv()
    if work.load.cpus:
        os.sched_setaffinity(0, work.load.cpus)

    def begin() -> float:
        pipe.send(None)
        begins_s: float = pipe.recv()
        return begins_s

    try:
        pipe.send(CALLERS[work.load.client](work, begin))
    except LoadFailed as failed:
        pipe.send(failed)


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as parent:
        generate(parent)
