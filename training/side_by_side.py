"""Work on many pieces, a few at once on threads, its results in the order of the pieces. Polars lets go of the lock.

In: pieces and what to do with one. Out: what became of each, none out of turn and few in memory. Called by the readers
of training/sources and by training/cleaning.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

N_WORKERS = 2
Piece = TypeVar("Piece")
Done = TypeVar("Done")


def side_by_side(work: Callable[[Piece], Done], pieces: Iterable[Piece]) -> Iterator[tuple[Piece, Done]]:
    """Yield each piece with what `work` made of it, in order; at most one more than there are workers is in memory.

    work    called on threads; whatever it raises is raised here, in turn
    pieces  asked for one by one, from the caller's thread
    """
    with ThreadPoolExecutor(N_WORKERS) as workers:
        running: deque[tuple[Piece, Future[Done]]] = deque()
        for piece in pieces:
            running.append((piece, workers.submit(work, piece)))
            if len(running) > N_WORKERS:
                first, future = running.popleft()
                yield first, future.result()
        while running:
            first, future = running.popleft()
            yield first, future.result()
