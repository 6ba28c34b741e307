"""Feedback: rows are sent in messages of bounded size and counted once, however often they are sent.

In: events, exposures or outcomes. Out: what became of each row. Called by client.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from stratagem.v1 import feedback_pb2

from stratagem_client.calls import Caller
from stratagem_client.columns import Array
from stratagem_client.refusals import Failure, Refused, WrongUse
from stratagem_client.requests import Named, named


@dataclass(frozen=True)
class Recorded(Generic[Named]):
    """What became of each row.

    rows      as sent, each with its event_id
    statuses  (n_rows,) uint8   RecordStatus; RECORD_STATUS_UNSPECIFIED: no answer
    problems  by row, why it was refused
    failures  rows without an answer, and why; empty: all were answered
    """

    rows: Sequence[Named]
    statuses: Array
    problems: dict[int, str]
    failures: tuple[Failure, ...]

    def unacknowledged(self) -> list[Named]:
        """The rows without an answer: record them again, and each still counts once."""
        return [row for row, status in zip(self.rows, self.statuses, strict=True) if not status]

    def complete(self) -> "Recorded[Named]":
        """These results, if every row was answered.

        raises  Refused  the first refusal
        """
        for failure in self.failures:
            raise failure.refused
        return self


async def record(
    caller: Caller, field: str, rows: Sequence[Named], rows_per_message: int, within_s: float
) -> Recorded[Named]:
    """Send rows in their order, one message after the other: an event may only count after those before it.

    field     of RecordRequest and RecordResponse: events, exposures or outcomes
    within_s  time for one message, retries included
    """
    if not rows:
        raise WrongUse(f"{field} must have at least one row, got none")
    sent = named(rows)
    statuses, problems, failures = np.zeros(len(sent), np.uint8), dict[int, str](), list[Failure]()
    for first in range(0, len(sent), rows_per_message):
        part = sent[first : first + rows_per_message]
        request = feedback_pb2.RecordRequest(**{field: part})
        try:
            answer = await caller.call(lambda connection: connection.feedback.Record, request, within_s)
        except Refused as refused:
            # What comes after it waits: a shopper's later events must not overtake the earlier ones.
            failures.append(Failure(first, len(sent), refused))
            break
        for place, result in enumerate(getattr(answer, field), first):
            statuses[place] = result.status
            if result.problem:
                problems[place] = result.problem
    return Recorded(sent, statuses, problems, tuple(failures))
