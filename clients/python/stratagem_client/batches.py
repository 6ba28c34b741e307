"""Many decisions: split into messages of bounded size, a bounded number of them at once, answered in columns.

In: shopper ids. Out: Decisions: numpy columns, rows in words, and which rows are still without an answer.
Called by client.py.
"""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from stratagem.v1 import strategy_pb2

from stratagem_client.calls import Caller
from stratagem_client.columns import Array, Columns, columns_of, joined, unanswered
from stratagem_client.refusals import Failure, Refused, WrongUse
from stratagem_client.retries import GONE
from stratagem_client.words import action_in_words, economics_in_words

ID_BYTES, BATCH_ID_BYTES = 200, 170
# These hold for every message of a batch, so the first of them ends it: a dead gateway is not asked a hundred times.
SPOILS_ALL = frozenset(
    {
        *GONE,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True)
class Row:
    """One row of Decisions; amounts in millionths of the shop's currency.

    status     of RowStatus: decided, unknown shopper, or unspecified: no answer; only if decided do the others count
    action     with its item_ids
    runner_up  the best eligible action that was not chosen, without item_ids
    rung       of Rung
    """

    shopper_id: str
    decision_id: str
    status: int
    action: strategy_pb2.Action
    value_micros: int
    cost_micros: int
    score_micros: int
    propensity: float
    runner_up: strategy_pb2.Action
    runner_up_score_micros: int
    rung: int
    state_age_s: int
    currency_code: str

    def in_words(self) -> str:
        """One sentence for people."""
        if self.status == strategy_pb2.ROW_STATUS_UNKNOWN_SHOPPER:
            return f"{self.shopper_id}: nobody by this id"
        if self.status != strategy_pb2.ROW_STATUS_DECIDED:
            return f"{self.shopper_id}: no answer yet"
        economics = economics_in_words(self.value_micros, self.cost_micros, self.currency_code)
        return f"{self.shopper_id}: {action_in_words(self.action)} ({economics})"


@dataclass(frozen=True)
class Batch:
    """What was asked: enough to ask the rest again and get the same decisions.

    times_s           (n_rows,) int64 moments; None: one for all, or the gateway's clock
    time_s            the one moment for all; None: the gateway's clock
    rows_per_message  where one message ends and the next begins
    """

    shopper_ids: Sequence[str]
    batch_id: str
    rows_per_message: int
    time_s: int | None = None
    times_s: Array | None = None

    def decision_id(self, row: int) -> str:
        """The id of one row's decision."""
        message, place = divmod(row, self.rows_per_message)
        return f"{self.batch_id}.{message}/{place}"

    def request(self, first: int) -> strategy_pb2.DecideBatchRequest:
        """The message that begins with row `first`."""
        rows = slice(first, first + self.rows_per_message)
        keys, ends = packed(self.shopper_ids[rows], first)
        return strategy_pb2.DecideBatchRequest(
            batch_id=f"{self.batch_id}.{first // self.rows_per_message}",
            shopper_keys=keys,
            shopper_key_ends=ends.tolist(),
            time_s=self.time_s,
            times_s=[] if self.times_s is None else self.times_s[rows].tolist(),
        )


@dataclass(frozen=True)
class Decisions:
    """The answer to a batch; iterate over it for its rows.

    batch     what was asked
    columns   one row per shopper, in the order asked
    failures  rows without an answer, and why; empty: all were answered
    """

    batch: Batch
    columns: Columns
    failures: tuple[Failure, ...]

    def __len__(self) -> int:
        """How many rows, answered or not."""
        return len(self.columns)

    def __iter__(self) -> Iterator[Row]:
        """One row after the other."""
        return (self.row(place) for place in range(len(self)))

    def row(self, place: int) -> Row:
        """One row."""
        columns, numbers = self.columns, self.columns.rows
        is_answered = int(columns.terms_index[place]) >= 0
        action, runner_up = strategy_pb2.Action(), strategy_pb2.Action()
        if numbers["statuses"][place] == strategy_pb2.ROW_STATUS_DECIDED:
            action.CopyFrom(columns.actions[numbers["action_index"][place]])
            runner_up.CopyFrom(columns.actions[numbers["runner_up_index"][place]])
        shown = columns.item_index[columns.item_offsets[place] : columns.item_offsets[place + 1]]
        action.item_ids.extend([columns.item_ids[item] for item in shown.tolist()])
        return Row(
            shopper_id=self.batch.shopper_ids[place],
            decision_id=self.batch.decision_id(place),
            status=int(numbers["statuses"][place]),
            action=action,
            value_micros=int(numbers["value_micros"][place]),
            cost_micros=int(numbers["cost_micros"][place]),
            score_micros=int(numbers["score_micros"][place]),
            propensity=float(numbers["propensity"][place]),
            runner_up=runner_up,
            runner_up_score_micros=int(numbers["runner_up_score_micros"][place]),
            rung=int(numbers["rungs"][place]),
            state_age_s=int(numbers["state_age_s"][place]),
            currency_code=columns.terms[columns.terms_index[place]].currency_code if is_answered else "",
        )

    def complete(self) -> "Decisions":
        """These decisions, if every row was answered.

        raises  Refused  the first refusal
        """
        for failure in self.failures:
            raise failure.refused
        return self


def packed(shopper_ids: Sequence[str], first_row: int = 0) -> tuple[bytes, Array]:
    """Ids one behind the other, and where each ends.

    first_row  what the first one is called in a complaint
    returns    UTF-8 bytes; (n_rows,) uint32 ascending
    raises     WrongUse  naming the first row whose id is not 1 to 200 bytes
    """
    keys = [shopper_id.encode() for shopper_id in shopper_ids]
    n_bytes = np.fromiter(map(len, keys), np.int64, len(keys))
    wrong = np.flatnonzero((n_bytes < 1) | (n_bytes > ID_BYTES))
    if wrong.size:
        row = int(wrong[0])
        raise WrongUse(f"shopper_ids must be 1 to {ID_BYTES} bytes each, got {n_bytes[row]} (row {first_row + row})")
    return b"".join(keys), np.cumsum(n_bytes).astype(np.uint32)


def batch_of(
    shopper_ids: Sequence[str], rows_per_message: int, time_s: int | Sequence[int] | Array | None, batch_id: str | None
) -> Batch:
    """The batch in these arguments.

    raises  WrongUse  naming the argument that breaks its rule
    """
    if not len(shopper_ids):
        raise WrongUse("shopper_ids must have at least one row, got none")
    if batch_id is not None and not 1 <= len(batch_id.encode()) <= BATCH_ID_BYTES:
        raise WrongUse(f"batch_id must be 1 to {BATCH_ID_BYTES} bytes, got {len(batch_id.encode())}")
    named = batch_id or uuid.uuid4().hex
    if time_s is None or isinstance(time_s, int | np.integer):
        return Batch(shopper_ids, named, rows_per_message, None if time_s is None else int(time_s))
    times_s = np.asarray(time_s, np.int64)
    if times_s.shape != (len(shopper_ids),):
        raise WrongUse(f"time_s must be one moment or one per row, got {times_s.size} for {len(shopper_ids)} rows")
    return Batch(shopper_ids, named, rows_per_message, None, times_s)


async def decide_batch(caller: Caller, batch: Batch, n_open: int, within_s: float) -> Decisions:
    """Ask for every row of a batch.

    n_open    messages on their way at once
    within_s  time for one message, retries included
    """
    first_rows = range(0, len(batch.shopper_ids), batch.rows_per_message)
    for first in first_rows:  # a wrong id in the last message must not be found after the others were decided
        packed(batch.shopper_ids[first : first + batch.rows_per_message], first)
    answers = await _answers(caller, batch, list(first_rows), n_open, within_s)
    return _decisions(batch, answers)


async def decide_rest(caller: Caller, decisions: Decisions, n_open: int, within_s: float) -> Decisions:
    """Ask again for the rows without an answer, under the same ids; the others stay as they are."""
    batch = decisions.batch
    first_rows = range(0, len(batch.shopper_ids), batch.rows_per_message)
    failed = [failure.first for failure in decisions.failures]
    known: dict[int, Columns | Refused] = {
        first: decisions.columns[first : first + batch.rows_per_message] for first in first_rows if first not in failed
    }
    return _decisions(batch, known | await _answers(caller, batch, failed, n_open, within_s))


async def _answers(
    caller: Caller, batch: Batch, first_rows: list[int], n_open: int, within_s: float
) -> dict[int, Columns | Refused]:
    """What became of the messages that begin with these rows."""
    answers: dict[int, Columns | Refused] = {}
    waiting = iter(first_rows)
    ended: list[Refused] = []

    async def ask_in_turn() -> None:
        for first in waiting:  # shared by all askers: each message is taken once
            answers[first] = ended[0] if ended else await _answer(caller, batch, first, within_s)
            found = answers[first]
            if isinstance(found, Refused) and found.code in SPOILS_ALL:
                ended.append(found)

    async with asyncio.TaskGroup() as askers:
        for _ in range(min(n_open, len(first_rows))):
            askers.create_task(ask_in_turn())
    return answers


async def _answer(caller: Caller, batch: Batch, first: int, within_s: float) -> Columns | Refused:
    n_rows = min(batch.rows_per_message, len(batch.shopper_ids) - first)
    try:
        answer = await caller.call(lambda connection: connection.strategy.DecideBatch, batch.request(first), within_s)
        return columns_of(answer, n_rows)
    except Refused as refused:
        return refused


def _decisions(batch: Batch, answers: dict[int, Columns | Refused]) -> Decisions:
    parts, failures = [], []
    for first, answer in sorted(answers.items()):
        end = min(first + batch.rows_per_message, len(batch.shopper_ids))
        if isinstance(answer, Refused):
            failures.append(Failure(first, end, answer))
            answer = unanswered(end - first)
        parts.append(answer)
    return Decisions(batch, joined(parts), tuple(failures))
