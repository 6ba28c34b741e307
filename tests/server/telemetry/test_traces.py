"""Traces against a real collector and a real Triton; what the caller's traceparent says is what happens."""

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus
from pydantic import ValidationError
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from server.problems import WrongSettings
from server.settings import Settings, load_settings
from server.telemetry.laps import Laps
from server.telemetry.traces import MOST_WAITING, Traced, Traces, open_traces, traces_url
from server.triton.environment import Environment
from server.triton.messages import request_of
from server.triton.process import started
from tests.server.telemetry.collector import Collected, Collector, collecting
from tests.tiny_repository import tiny_inputs

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = [("user-agent", "test"), ("traceparent", f"00-{TRACE}-{PARENT}-01")]
STAGES = ("read", "features", "models", "log", "answer")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as listening:
        yield listening


@pytest.fixture
def traces(collector: Collector) -> Iterator[Traces]:
    opened = Traces(collector.url, share=0.0)
    yield opened
    opened.close()


def batch(*stages: str) -> Laps:
    """A micro-batch that went through `stages`."""
    laps = Laps()
    for stage in stages:
        laps.lap(stage)
    return laps


def by_name(spans: list[Collected], trace: str = TRACE) -> dict[str, Span]:
    """The spans of one trace."""
    return {found.span.name: found.span for found in spans if found.span.trace_id.hex() == trace}


def traced(traces: Traces, metadata: list[tuple[str, str]]) -> Traced:
    """A call that must be sampled."""
    found = traces.sampled(metadata)
    assert found is not None
    return found


def test_a_sampled_call_becomes_a_span_with_its_stages_below(collector: Collector, traces: Traces) -> None:
    call = traced(traces, SAMPLED)
    before_ns, arrived_ns = time.time_ns(), time.monotonic_ns()
    laps = batch(*STAGES)
    traces.record(call, "Decide", "decision-1", arrived_ns, laps.laps, "OK")
    after_ns = time.time_ns()
    found = collector.wait(lambda spans: len(spans) >= 7)
    spans = by_name(found)
    request = spans.pop("Decide")
    assert request.parent_span_id.hex() == PARENT
    assert request.kind == Span.SPAN_KIND_SERVER
    attributes = next(one.attributes for one in found if one.span.name == "Decide")
    assert attributes["stratagem.decision_id"] == "decision-1"
    assert attributes["rpc.grpc.status_code"] == 0
    assert {one.service for one in found} == {"stratagem"}
    assert collector.paths == {"/v1/traces"}
    assert set(spans) == {"queue", *STAGES}
    assert {span.parent_span_id for span in spans.values()} == {request.span_id}
    assert len({span.span_id for span in spans.values()} | {request.span_id}) == 7
    times = [spans[name] for name in ("queue", *STAGES)]
    for earlier, later in pairwise(times):
        assert earlier.end_time_unix_nano == later.start_time_unix_nano
    assert request.start_time_unix_nano == times[0].start_time_unix_nano
    assert request.end_time_unix_nano == times[-1].end_time_unix_nano
    slack_ns = 5_000_000  # the two clocks are read one after the other, and wall time may be slewed meanwhile
    assert before_ns - slack_ns <= request.start_time_unix_nano
    assert request.end_time_unix_nano <= after_ns + slack_ns


def test_a_call_refused_before_any_batch_is_an_error_without_stages(collector: Collector, traces: Traces) -> None:
    traces.record(traced(traces, SAMPLED), "Decide", "", time.monotonic_ns(), [], "DEADLINE_EXCEEDED")
    spans = by_name(collector.wait(lambda spans: len(spans) >= 2))
    assert set(spans) == {"Decide", "queue"}
    assert spans["Decide"].status.code == SpanStatus.STATUS_CODE_ERROR
    assert spans["Decide"].status.message == "DEADLINE_EXCEEDED"


def test_a_callers_fault_is_no_error_of_ours(collector: Collector, traces: Traces) -> None:
    traces.record(traced(traces, SAMPLED), "Decide", "", time.monotonic_ns(), [], "NOT_FOUND")
    spans = by_name(collector.wait(lambda spans: len(spans) >= 2))
    assert spans["Decide"].status.code == SpanStatus.STATUS_CODE_UNSET


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-02",
        f"01-{TRACE}-{PARENT}-00-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        "",
        "\n",
        "00-é-01",
    ],
)
def test_what_is_not_sampled_or_not_readable_is_not_continued(traces: Traces, traceparent: str) -> None:
    assert traces.sampled([("traceparent", traceparent)]) is None
    assert traces.sampled([("traceparent", traceparent.encode("utf-8"))]) is None


anything = st.one_of(st.text(max_size=70), st.binary(max_size=70))


@given(noise=anything, state=anything)
def test_no_metadata_breaks_the_sampling(noise: str | bytes, state: str | bytes) -> None:
    quiet = Traces("http://127.0.0.1:1", share=0.0)
    try:
        quiet.sampled([("traceparent", noise)])
        found = quiet.sampled([*SAMPLED, ("tracestate", state)])
        assert found is not None
        assert f"{found.context.trace_id:032x}" == TRACE
    finally:
        quiet.close()


def test_the_share_decides_where_no_caller_does(collector: Collector) -> None:
    for share, n_expected in ((0.0, 0), (1.0, 500)):
        traces = Traces(collector.url, share)
        found = [traces.sampled([("user-agent", "test")]) for _ in range(500)]
        assert sum(one is not None for one in found) == n_expected
        assert len({one.context.trace_id for one in found if one}) == n_expected
        assert traces.sampled([("traceparent", f"00-{TRACE}-{PARENT}-00")]) is None
        traces.close()


def test_the_trace_state_travels_on(traces: Traces) -> None:
    call = traced(traces, [*SAMPLED, ("tracestate", "vendor=one,other=two")])
    assert dict(traces.triton_metadata([call]))["tracestate"] == "vendor=one,other=two"


def test_a_batch_without_traced_rows_brings_triton_nothing(traces: Traces) -> None:
    assert traces.triton_metadata([None] * 5) == ()


def test_the_other_rows_of_a_batch_link_to_the_span_that_triton_continues(collector: Collector, traces: Traces) -> None:
    other = "1" * 32
    first, second = traced(traces, SAMPLED), traced(traces, [("traceparent", f"00-{other}-{PARENT}-01")])
    sent = dict(traces.triton_metadata([None, first, second]))["traceparent"]
    laps = batch(*STAGES)
    for call in (first, second):
        traces.record(call, "Decide", "", laps.began_ns, laps.laps, "OK")
    found = collector.wait(lambda spans: len(spans) >= 14)
    asked, joined = by_name(found)["models"], by_name(found, other)["models"]
    assert sent == f"00-{TRACE}-{asked.span_id.hex()}-01"
    assert asked.kind == joined.kind == Span.SPAN_KIND_CLIENT
    assert [(link.trace_id.hex(), link.span_id) for link in joined.links] == [(TRACE, asked.span_id)]
    assert list(asked.links) == []
    assert by_name(found)["log"].kind == Span.SPAN_KIND_INTERNAL


def test_a_silent_collector_costs_spans_and_nothing_else(collector: Collector) -> None:
    collector.status = 400  # an answer that is not tried again
    traces = Traces(collector.url, share=1.0)
    laps = batch(*STAGES)
    for _ in range(MOST_WAITING + 100):
        traces.record(traced(traces, []), "Decide", "", laps.began_ns, laps.laps, "OK")
    assert traces.n_dropped > 0
    assert collector.wait_for_requests(1) >= 1
    assert collector.spans == []
    traces.close()


def test_closing_exports_what_waits(collector: Collector) -> None:
    traces = Traces(collector.url, share=1.0)
    traces.record(traced(traces, []), "Decide", "", time.monotonic_ns(), [], "OK")
    traces.close()
    assert {found.span.name for found in collector.spans} == {"Decide", "queue"}


def test_closing_does_not_wait_for_a_collector_that_is_gone() -> None:
    traces = Traces("http://127.0.0.1:1", share=1.0)
    traces.record(traced(traces, []), "Decide", "", time.monotonic_ns(), [], "OK")
    began_s = time.monotonic()
    traces.close(within_s=0.2)
    assert time.monotonic() - began_s < 2.0


def test_no_endpoint_is_no_traces() -> None:
    assert open_traces(Settings()) is None
    with pytest.raises(ValidationError, match="traces_endpoint"):
        Settings(traces_endpoint="collector:4318")


def test_a_collectors_password_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATAGEM_TRACES_ENDPOINT", "http://user:planted@collector:4318")
    with pytest.raises(WrongSettings, match="STRATAGEM_TRACES_ENDPOINT") as told:
        load_settings()
    assert "planted" not in str(told.value)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://collector/some/path", "https://collector/some/path"),
        ("", ""),
    ],
)
def test_the_collectors_path_is_the_usual_one_unless_it_is_given(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


def test_a_trace_goes_through_to_triton(
    collector: Collector, triton_environment: Environment, tiny_repository: Path
) -> None:
    traces = Traces(collector.url, share=0.0)
    with (
        started(tiny_repository, ["predictions"], traces_url=traces.url) as triton,
        grpc.insecure_channel(triton.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request_of("predictions", tiny_inputs("predictions", 2)))  # nobody traces this one
        # Triton 2.51's exporter loses a batch of spans now and then, most often its first; the next call's arrive.
        trace = next(trace for trace in (f"{n:032x}" for n in range(1, 7)) if _asked(stub, traces, collector, trace))
    traces.close()
    spans = by_name(collector.spans, trace)
    assert spans["InferRequest"].parent_span_id == spans["models"].span_id
    assert spans["predictions"].parent_span_id == spans["InferRequest"].span_id
    assert spans["compute"].parent_span_id == spans["predictions"].span_id
    assert spans["models"].start_time_unix_nano <= spans["InferRequest"].start_time_unix_nano
    # Triton ends its own span some 0.1 ms after its answer is on the way.
    assert spans["compute"].start_time_unix_nano <= spans["models"].end_time_unix_nano
    assert {one.service for one in collector.spans if one.span.name == "compute"} == {"stratagem-triton"}
    assert {one.span.trace_id.hex() for one in collector.spans} <= {f"{n:032x}" for n in range(1, 7)}


def _asked(stub: GRPCInferenceServiceStub, traces: Traces, collector: Collector, trace: str) -> bool:
    """Ask Triton within `trace` and tell whether its spans arrive beside ours."""
    call = traced(traces, [("traceparent", f"00-{trace}-{PARENT}-01")])
    request = request_of("predictions", tiny_inputs("predictions", 2))
    laps = Laps()
    stub.ModelInfer(request, metadata=traces.triton_metadata([None, call]))
    laps.lap("models")
    traces.record(call, "Decide", "decision-1", laps.began_ns, laps.laps, "OK")
    wanted = {"InferRequest", "predictions", "compute", "models"}
    return wanted <= by_name(collector.wait(lambda spans: wanted <= by_name(spans, trace).keys(), 6.0), trace).keys()
