"""Traces of single calls through a micro-batch to Triton, told to an OTLP collector.

In: a call's metadata, and what became of it once it is answered. Out: OpenTelemetry spans over OTLP/HTTP, and the
traceparent that Triton continues. Called by the wire (`sampled`) and by server/decide.py (`triton_metadata`, `record`).
A call that is not sampled costs one look at its metadata. Spans are made after the fact on a thread of their own, with
identities drawn beforehand: Triton must know its parent before that parent has ended.
"""

import re
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from os import getpid
from random import getrandbits, random
from threading import Condition, Event, Thread
from time import monotonic_ns, time_ns
from typing import NamedTuple
from urllib.parse import urlsplit

from grpc import StatusCode
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, TraceFlags, TraceState
from opentelemetry.trace import StatusCode as SpanStatus

from server.settings import Settings
from server.telemetry.laps import Lap

Metadata = Iterable[tuple[str, str | bytes]]

MOST_WAITING = 4096  # records; beyond it the oldest are dropped and counted: a collector must never slow a decision
AT_ONCE = 256  # records of one message to the collector
EXPORT_EVERY_S = 0.5
EXPORT_WITHIN_S = 5.0
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
# Version, trace, parent, flags; a later version may add fields at the end.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# The statuses that are the server's fault and not the caller's, as OpenTelemetry's conventions for RPC have it.
_OUR_FAULT = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
_SCOPE = InstrumentationScope("stratagem")


class Traced:
    """A sampled call: its identity, whom it continues, and which of its stages Triton was told of."""

    __slots__ = ("context", "joined", "parent", "stages")

    def __init__(self, parent: SpanContext | None) -> None:
        """Draw the call's own identity.

        parent  the caller's span; None: the trace begins here
        """
        self.parent = parent
        self.context = _context(parent.trace_id if parent else _drawn(128), parent.trace_state if parent else None)
        self.stages: dict[str, SpanContext] = {}
        self.joined: dict[str, SpanContext] = {}


class _Record(NamedTuple):
    traced: Traced
    method: str
    decision_id: str
    began_ns: int
    laps: Sequence[Lap]
    status: str
    ended_ns: int
    epoch_ns: int


class Traces:
    """The traces of one process; made after a fork, never before it."""

    def __init__(self, endpoint: str, share: float, instance: str = "") -> None:
        """Start the thread that exports.

        endpoint  the collector, with or without /v1/traces
        share     of the calls that bring no traceparent, in [0, 1]
        instance  names this process among its kind; empty: by host and pid
        """
        self.url = traces_url(endpoint)
        self.n_dropped = 0
        self._share = share
        attributes = {
            "service.name": "stratagem",
            "service.instance.id": instance or f"{socket.gethostname()}:{getpid()}",
        }
        self._resource = Resource.create(attributes)
        self._exporter = OTLPSpanExporter(self.url, timeout=EXPORT_WITHIN_S)
        self._records: deque[_Record] = deque()
        self._some = Condition()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def sampled(self, metadata: Metadata) -> Traced | None:
        """Whether a call is traced: as its caller's traceparent says, else by the share.

        metadata  the call's, keys in lower case
        returns   what `record` and `triton_metadata` want; None for most calls
        """
        for key, value in metadata:
            if key == "traceparent":
                if type(value) is str and len(value) == 55 and value[54] in "02468ace" and value[:3] == "00-":
                    return None  # the usual case by far: the caller does not trace this one
                return self._continued(value, metadata)
        return Traced(None) if random() < self._share else None

    def _continued(self, value: str | bytes, metadata: Metadata) -> Traced | None:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        found = _TRACEPARENT.fullmatch(text)
        if found is None or (found[1] == "00" and found[5]):  # unreadable: as if there were none
            return Traced(None) if random() < self._share else None
        if not int(found[4], 16) & TraceFlags.SAMPLED:
            return None
        told = [value for key, value in metadata if key == "tracestate"]
        state = TraceState.from_header([item if isinstance(item, str) else item.decode("latin-1") for item in told])
        return Traced(SpanContext(int(found[2], 16), int(found[3], 16), True, SAMPLED, state))

    def triton_metadata(self, contexts: Iterable[Traced | None], stage: str = "models") -> tuple[tuple[str, str], ...]:
        """Metadata for a micro-batch's one call to Triton.

        contexts  of the batch's rows; None for a row that is not traced
        stage     whose span becomes the parent of Triton's in the first traced row; the others' spans link to it
        returns   traceparent, and tracestate if the caller sent one; nothing if no row is traced
        """
        leader: SpanContext | None = None
        for traced in contexts:
            if traced is None:
                continue
            if leader is None:
                leader = _context(traced.context.trace_id, traced.context.trace_state)
                traced.stages[stage] = leader
            else:
                traced.joined[stage] = leader
        if leader is None:
            return ()
        parent = ("traceparent", f"00-{leader.trace_id:032x}-{leader.span_id:016x}-01")
        return (parent, ("tracestate", leader.trace_state.to_header())) if leader.trace_state else (parent,)

    def record(
        self, traced: Traced, method: str, decision_id: str, began_ns: int, laps: Sequence[Lap], status: str
    ) -> None:
        """Hand over a call that is answered; its spans are made elsewhere.

        traced       as `sampled` gave it
        method       such as "Decide"
        decision_id  empty: none was made
        began_ns     when the message had come, time.monotonic_ns()
        laps         of its micro-batch, in order; empty: it never came into one. The call ends with the last
        status       the name of its gRPC status
        """
        now_ns = monotonic_ns()
        ended_ns = laps[-1][2] if laps else now_ns
        record = _Record(traced, method, decision_id, began_ns, laps, status, ended_ns, time_ns() - now_ns)
        with self._some:
            if len(self._records) >= MOST_WAITING:
                self._records.popleft()
                self.n_dropped += 1
            self._records.append(record)
            if len(self._records) == 1:
                self._some.notify()

    def close(self, within_s: float = EXPORT_WITHIN_S) -> None:
        """Export what waits and end the thread; what is not told in time is lost."""
        self._closing.set()
        with self._some:
            self._some.notify()
        self._thread.join(within_s)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # interrupts a retry

    def _run(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: self._records or self._closing.is_set())
            self._closing.wait(EXPORT_EVERY_S)  # so that one message carries many
            while records := self._take():
                self._exporter.export([span for record in records for span in self._spans(record)])
            if self._closing.is_set():
                return

    def _take(self) -> list[_Record]:
        with self._some:
            return [self._records.popleft() for _ in range(min(AT_ONCE, len(self._records)))]

    def _spans(self, record: _Record) -> list[ReadableSpan]:
        traced, epoch_ns = record.traced, record.epoch_ns
        attributes: dict[str, str | int] = {
            "rpc.system": "grpc",
            "rpc.method": record.method,
            "rpc.grpc.status_code": StatusCode[record.status].value[0],
        }
        if record.decision_id:
            attributes["stratagem.decision_id"] = record.decision_id
        spans = [
            ReadableSpan(
                record.method,
                traced.context,
                traced.parent,
                self._resource,
                attributes,
                kind=SpanKind.SERVER,
                status=Status(SpanStatus.ERROR, record.status) if record.status in _OUR_FAULT else Status(),
                start_time=record.began_ns + epoch_ns,
                end_time=record.ended_ns + epoch_ns,
                instrumentation_scope=_SCOPE,
            )
        ]
        began_ns = record.laps[0][1] if record.laps else record.ended_ns
        for stage, from_ns, until_ns in (("queue", record.began_ns, max(began_ns, record.began_ns)), *record.laps):
            spans.append(self._stage(traced, stage, from_ns + epoch_ns, until_ns + epoch_ns))
        return spans

    def _stage(self, traced: Traced, stage: str, from_ns: int, until_ns: int) -> ReadableSpan:
        joined = traced.joined.get(stage)
        return ReadableSpan(
            stage,
            traced.stages.get(stage) or _context(traced.context.trace_id, traced.context.trace_state),
            traced.context,
            self._resource,
            links=[Link(joined)] if joined else [],
            # Triton's span is the server's side of this call.
            kind=SpanKind.CLIENT if stage in traced.stages or joined else SpanKind.INTERNAL,
            start_time=from_ns,
            end_time=until_ns,
            instrumentation_scope=_SCOPE,
        )


def open_traces(settings: Settings) -> Traces | None:
    """The traces that the settings ask for; None: none, and then nothing is ever looked at."""
    if not settings.traces_endpoint:
        return None
    return Traces(settings.traces_endpoint, settings.traces_share)


def traces_url(endpoint: str) -> str:
    """Where to POST to: the collector's own path if one is given; empty stays empty."""
    if not endpoint or urlsplit(endpoint).path.strip("/"):
        return endpoint
    return endpoint.rstrip("/") + "/v1/traces"


def _context(trace_id: int, state: TraceState | None) -> SpanContext:
    """A new span of our own in that trace."""
    return SpanContext(trace_id, _drawn(64), False, SAMPLED, state)


def _drawn(n_bits: int) -> int:
    """A random identity; zero means none and is never drawn."""
    return getrandbits(n_bits) or 1
