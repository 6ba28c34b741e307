"""Shoppers who did something since their last decision: events that come in while decisions are asked for.

In: a target, shoppers in the order in which they will be asked about, a rate. Out: how many events were acknowledged.
Called by curve.py, profiles.py and the benchmarks.
"""

import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle

import grpc
from stratagem.v1 import event_pb2, feedback_pb2, feedback_pb2_grpc

from server.load.target import Target

N_OPEN = 256
ACKNOWLEDGED_WITHIN_S = 30.0


def changed_ones(shopper_ids: Sequence[str], share: float) -> list[str]:
    """Every so manieth shopper, in order, so that a share of those asked about has changed.

    share  in (0, 1]
    """
    return [shopper_ids[int(place / share)] for place in range(int(len(shopper_ids) * share + 1e-9))]


@dataclass
class Recorded:
    """What became of the events so far.

    n_failed  not acknowledged, or refused
    problem   the first failure in the gateway's words
    """

    n_acknowledged: int = 0
    n_failed: int = 0
    problem: str = ""
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None

    @property
    def rate_per_s(self) -> float:
        """Acknowledged events a second."""
        until_s = time.monotonic() if self.ended_s is None else self.ended_s
        return self.n_acknowledged / max(until_s - self.began_s, 1e-9)


@contextmanager
def changing(target: Target, shopper_ids: Sequence[str], rate_per_s: float, at_s: int) -> Iterator[Recorded]:
    """For the length of the block, let shoppers view something, one event a request, round and round.

    shopper_ids  in the order in which they change
    rate_per_s   events a second; fewer if the gateway acknowledges fewer
    at_s         when the events happen, seconds since 1970 UTC
    """
    began_s = time.monotonic()
    due = ((began_s + place / rate_per_s, shopper_id) for place, shopper_id in enumerate(cycle(shopper_ids)))
    with recording(target, due, at_s) as recorded:
        yield recorded


@contextmanager
def recording(target: Target, due: Iterable[tuple[float, str]], at_s: int) -> Iterator[Recorded]:
    """For the length of the block, or until all are sent, let shoppers view something, one event a request.

    due   when each event is sent, a moment of time.monotonic, ascending; and whose it is
    at_s  when the events happen, seconds since 1970 UTC
    """
    recorded, stop = Recorded(), threading.Event()
    thread = threading.Thread(target=_record, args=(target, due, at_s, recorded, stop))
    thread.start()
    try:
        yield recorded
    finally:
        stop.set()
        thread.join()


def _record(
    target: Target, due: Iterable[tuple[float, str]], at_s: int, recorded: Recorded, stop: threading.Event
) -> None:
    run = uuid.uuid4().hex
    running: deque[grpc.Future] = deque()
    with target.channel() as channel:
        stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
        for place, (moment_s, shopper_id) in enumerate(due):
            if stop.wait(max(0.0, moment_s - time.monotonic())):
                break
            event = event_pb2.Event(
                event_id=f"{run}-{place}", shopper_id=shopper_id, time_s=at_s, kind=event_pb2.EVENT_KIND_VIEW
            )
            request = feedback_pb2.RecordRequest(events=[event])
            running.append(stub.Record.future(request, timeout=ACKNOWLEDGED_WITHIN_S, metadata=target.metadata))
            while running and (running[0].done() or len(running) > N_OPEN):
                _count(running.popleft(), recorded)
        while running:
            _count(running.popleft(), recorded)
        recorded.ended_s = time.monotonic()


def _count(call: grpc.Future, recorded: Recorded) -> None:
    try:
        results = call.result().events
    except grpc.RpcError as error:
        recorded.n_failed += 1
        recorded.problem = recorded.problem or f"{error.code().name}: {error.details()}"
        return
    taken = sum(result.status == feedback_pb2.RECORD_STATUS_RECORDED for result in results)
    recorded.n_acknowledged += taken
    recorded.n_failed += len(results) - taken
    recorded.problem = recorded.problem or next((result.problem for result in results if result.problem), "")
