"""What Prometheus sees: real scrapes, parsed as Prometheus parses them."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as SlowTwin
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from server.problems import PortInUse, WrongSettings
from server.telemetry.histograms import Histogram
from server.telemetry.metrics import N_CLIENTS, OTHER_CLIENTS, STAGES, Metrics
from server.telemetry.page import MetricsPage, serve_metrics, worker_port

BOUNDS = (0.001, 0.01, 0.1, 1.0)
STRATEGY, RISK = "stratagem.v1.StrategyService", "stratagem.v1.RiskService"


class Switch:
    """A readiness that the test turns."""

    def __init__(self) -> None:
        self.is_on = True

    def __call__(self) -> bool:
        return self.is_on


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def risk() -> Switch:
    return Switch()


@pytest.fixture
def page(metrics: Metrics, risk: Switch) -> Iterator[MetricsPage]:
    with serve_metrics(metrics, ready={STRATEGY: lambda: True, RISK: risk}) as served:
        yield served


def get(page: MetricsPage, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    """Status, content type and body."""
    asked = urllib.request.Request(f"http://{page.host}:{page.port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def samples(page: MetricsPage) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of one scrape by name and labels."""
    text = get(page, "/metrics")[2]
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_micro_batch_is_seen_as_it_was_told(metrics: Metrics, page: MetricsPage) -> None:
    metrics.decided("full", 3)
    metrics.decided("cached", 1)
    metrics.batch(4, np.array([0.0002, 0.004, 0.004, 3.0]), {"read": 0.0001, "models": 0.006})
    metrics.answered("Decide", "OK", np.array([0.0004, 0.009, 0.02]))
    metrics.answered("Decide", "DEADLINE_EXCEEDED", 0.3)
    metrics.vectors(3, 1, np.array([0.7]))
    seen = samples(page)
    assert seen["stratagem_decisions_total", (("rung", "full"),)] == 3
    assert seen["stratagem_decisions_total", (("rung", "cached"),)] == 1
    assert seen["stratagem_decisions_total", (("rung", "safe_default"),)] == 0
    assert seen["stratagem_batch_rows_sum", ()] == 4
    assert seen["stratagem_queue_wait_seconds_bucket", (("le", "0.00025"),)] == 1
    assert seen["stratagem_queue_wait_seconds_bucket", (("le", "1.0"),)] == 3
    assert seen["stratagem_queue_wait_seconds_bucket", (("le", "+Inf"),)] == 4
    assert seen["stratagem_queue_wait_seconds_sum", ()] == pytest.approx(3.0082)
    assert seen["stratagem_stage_seconds_sum", (("stage", "models"),)] == 0.006
    assert {stage: seen["stratagem_stage_seconds_count", (("stage", stage),)] for stage in STAGES} == {
        stage: float(stage in ("read", "models")) for stage in STAGES
    }
    assert seen["stratagem_request_seconds_count", (("method", "Decide"), ("status", "OK"))] == 3
    assert seen["stratagem_request_seconds_count", (("method", "Decide"), ("status", "DEADLINE_EXCEEDED"))] == 1
    assert seen["stratagem_vectors_total", (("state", "stale"),)] == 1
    assert seen["stratagem_vector_age_seconds_count", ()] == 4
    assert seen["stratagem_vector_age_seconds_bucket", (("le", "0.01"),)] == 3
    assert seen["stratagem_vector_age_seconds_sum", ()] == 0.7
    assert seen["process_resident_memory_bytes", ()] > 1e6


def test_what_the_parts_know_is_asked_at_each_scrape(metrics: Metrics, page: MetricsPage) -> None:
    known = {"depth": 3, "bytes": 10}
    metrics.watch(lambda: known["depth"], lambda: 2, lambda: True, lambda: 1_000_000)
    metrics.counter("stratagem_wire_received_bytes", "Bytes of messages received.", lambda: known["bytes"])
    first = samples(page)
    known |= {"depth": 7, "bytes": 30}
    second = samples(page)
    assert [seen["stratagem_queue_depth", ()] for seen in (first, second)] == [3, 7]
    assert [seen["stratagem_wire_received_bytes_total", ()] for seen in (first, second)] == [10, 30]
    assert (second["stratagem_open_calls", ()], second["stratagem_triton_ready", ()]) == (2, 1)
    assert second["stratagem_state_shoppers", ()] == 1_000_000


def test_the_build_names_the_release_and_plan_that_answer_now(metrics: Metrics, page: MetricsPage) -> None:
    metrics.released("0123456789ab", "plan-1")
    metrics.released("0123456789ab", "plan-2")
    told = [dict(labels) for name, labels in samples(page) if name == "stratagem_build_info"]
    assert [(labels["release"], labels["plan_id"]) for labels in told] == [("0123456789ab", "plan-2")]


def test_refusals_by_client_stay_few_however_many_clients_come(metrics: Metrics, page: MetricsPage) -> None:
    for number in range(N_CLIENTS + 50):
        metrics.refused("RESOURCE_EXHAUSTED", f"client-{number}", 2)
    metrics.refused("RESOURCE_EXHAUSTED", "client-7")
    seen = {
        dict(key[1])["client"]: value for key, value in samples(page).items() if key[0] == "stratagem_refused_total"
    }
    assert len(seen) == N_CLIENTS + 1
    assert seen["client-7"] == 3
    assert sum(seen.values()) == 2 * (N_CLIENTS + 50) + 1
    assert seen[OTHER_CLIENTS] == 100


def test_a_client_name_with_quotes_and_newlines_does_not_break_the_page(metrics: Metrics, page: MetricsPage) -> None:
    metrics.refused("UNAUTHENTICATED", 'a"b\\c\nd')
    assert samples(page)["stratagem_refused_total", (("client", 'a"b\\c\nd'), ("code", "UNAUTHENTICATED"))] == 1


def test_the_page_speaks_open_metrics_when_asked(metrics: Metrics, page: MetricsPage) -> None:
    metrics.batch(2, [0.001, 0.002], {"read": 0.001})
    _, content_type, text = get(page, "/metrics", "application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(text)}
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert families["stratagem_stage_seconds"].type == "histogram"
    assert families["stratagem_decisions"].type == "counter"


def test_every_family_carries_its_words_and_unit(page: MetricsPage) -> None:
    text = get(page, "/metrics")[2]
    ours = [family for family in text_string_to_metric_families(text) if family.name.startswith("stratagem_")]
    assert len(ours) >= 10
    assert [family.name for family in ours if not family.documentation.endswith(".")] == []
    timed = [family.name for family in ours if family.type == "histogram" and "rows" not in family.name]
    assert [name for name in timed if not name.endswith("_seconds")] == []


values = st.lists(st.one_of(st.floats(0, 2), st.sampled_from([0.0, *BOUNDS, 5e-324, float("inf")])), max_size=60)


@given(batches=st.lists(values, max_size=4))
def test_many_values_at_once_are_counted_as_one_by_one(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    fast = Histogram("waited_seconds", "Words.", BOUNDS).into(ours).of()
    slow = SlowTwin("waited_seconds", "Words.", buckets=BOUNDS, registry=theirs)
    for batch in batches:
        fast.observe_many(np.array(batch))
        fast.observe_times(0.25, len(batch))
        for value in [*batch, *[0.25] * len(batch)]:
            slow.observe(value)
    told, defined = ({s.name + str(s.labels): s.value for f in r.collect() for s in f.samples} for r in (ours, theirs))
    made = {name for name in defined if name.startswith("waited_seconds_created")}
    assert told.keys() == defined.keys() - made
    for name in told:  # numpy sums pairwise, the twin in order: a difference in the last digits
        assert told[name] == pytest.approx(defined[name], rel=1e-12)


def test_the_text_of_a_histogram_is_that_of_its_twin() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Histogram("waited_seconds", "Words.", BOUNDS, ["stage"]).into(ours).of("read").observe_many([0.25, 0.5] * 10)
    slow = SlowTwin("waited_seconds", "Words.", ["stage"], buckets=BOUNDS, registry=theirs).labels("read")
    for value in [0.25, 0.5] * 10:
        slow.observe(value)
    twin = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == twin


def test_threads_lose_no_count(metrics: Metrics, page: MetricsPage) -> None:
    n_threads, n_batches = 4, 500
    waits = np.full(20, 0.001)

    def tell() -> None:
        for _ in range(n_batches):
            metrics.decided("full", 20)
            metrics.batch(20, waits, {"read": 0.001})
            metrics.batch(1, waits[:1], {"read": 0.001})
            metrics.refused("RESOURCE_EXHAUSTED", "one")

    threads = [threading.Thread(target=tell) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert samples(page)["stratagem_decisions_total", (("rung", "full"),)] % 20 == 0
    seen = samples(page)
    assert seen["stratagem_decisions_total", (("rung", "full"),)] == n_threads * n_batches * 20
    assert seen["stratagem_queue_wait_seconds_count", ()] == n_threads * n_batches * 21
    assert seen["stratagem_stage_seconds_count", (("stage", "read"),)] == n_threads * n_batches * 2
    assert seen["stratagem_refused_total", (("client", "one"), ("code", "RESOURCE_EXHAUSTED"))] == n_threads * n_batches


def test_readiness_is_told_for_each_service(page: MetricsPage, risk: Switch) -> None:
    assert get(page, "/livez")[0] == 200
    assert get(page, "/readyz")[0] == 200
    risk.is_on = False
    assert get(page, "/readyz") == (503, "application/json", f'{{"{STRATEGY}":true,"{RISK}":false}}\n')
    assert get(page, f"/readyz/{STRATEGY}")[0] == 200
    assert get(page, f"/readyz/{RISK}")[0] == 503
    assert get(page, "/livez")[0] == 200
    assert get(page, "/readyz/stratagem.v1.Nobody")[0] == 404
    assert get(page, "/")[0] == 404


def test_a_callback_that_fails_spoils_its_scrape_and_not_the_page(
    metrics: Metrics, page: MetricsPage, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.gauge("stratagem_spoiled", "Fails.", lambda: 1 / 0)
    door = HTTPConnection(str(page.host), page.port, timeout=5)
    door.request("GET", "/metrics")
    with pytest.raises(OSError, match=r"closed connection|reset"):
        door.getresponse()
    door.close()
    assert "ZeroDivisionError" in caplog.text
    assert get(page, "/livez")[0] == 200


def test_a_closed_page_frees_its_port(metrics: Metrics) -> None:
    with serve_metrics(metrics) as first, pytest.raises(PortInUse, match=rf"metrics_port must be free .*:{first.port}"):
        serve_metrics(metrics, port=first.port)
    with serve_metrics(metrics, port=first.port) as second:
        assert get(second, "/livez")[0] == 200


def test_an_address_that_is_not_ours_is_one_sentence(metrics: Metrics) -> None:
    with pytest.raises(PortInUse, match=r"^metrics_port must be free to listen on, got 0: .+ \(192\.0\.2\.1:0\)$"):
        serve_metrics(metrics, "192.0.2.1")


def test_each_worker_has_a_page_of_its_own() -> None:
    assert [worker_port(9100, worker) for worker in (0, 1)] == [9100, 9101]
    assert [worker_port(None, 1), worker_port(0, 1)] == [None, 0]
    with pytest.raises(WrongSettings, match="STRATAGEM_METRICS_PORT must leave every worker a port"):
        worker_port(65535, 1)


def test_two_metrics_of_one_process_know_nothing_of_each_other(metrics: Metrics, page: MetricsPage) -> None:
    Metrics().decided("full", 9)
    assert samples(page)["stratagem_decisions_total", (("rung", "full"),)] == 0
