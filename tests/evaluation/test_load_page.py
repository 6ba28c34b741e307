"""The page of a load test shows what was measured, and owns up to what was not."""

import copy
import math
import xml.etree.ElementTree as ElementTree

import orjson
import pytest

from evaluation.load_page import Load, html, svg

SVG = "{http://www.w3.org/2000/svg}"


def point(share: float, p50_ms: float | None, **changes: object) -> dict[str, object]:
    waits = {"p50_ms": p50_ms, "p99_ms": p50_ms and 4 * p50_ms, "p999_ms": p50_ms and 10 * p50_ms}
    counts = {"n_calls": 1000, "n_failed": 20, "n_answered_late": 3, "stale_share": 0.012, "events_per_s": 50.0}
    rates = {"share": share, "asked_per_s": 5000 * share, "answered_per_s": 4900 * share}
    told = {"statuses": {"OK": 980, "RESOURCE_EXHAUSTED": 20}, "rungs": {"full": 960, "cached": 20}}
    late = {"is_generator_bound": False, "generator_late_p99_ms": 0.4}
    return rates | waits | counts | told | late | changes


def window(at_s: float) -> dict[str, object]:
    return {"at_s": at_s, "n_calls": 100, "n_failed": 0, "n_not_full": 0, "p50_ms": 2.0 + at_s, "p99_ms": 9.0}


@pytest.fixture
def load() -> Load:
    ended = {"statuses": {"OK": 600}, "rungs": {"full": 600}, "windows": [window(0.0), window(0.5), window(1.0)]}
    memory = [{"at_s": float(at), "own_mib": 300.0 + at, "pss_mib": 500.0} for at in range(5)]
    made = {
        "date": "2026-11-27", "machine": "2 cores, a processor", "generators": "h2load nghttp2/1.52.0",
        "is_tls": True, "has_token": True, "n_shoppers": 1_000_000, "changed_share": 0.05, "deadline_s": 0.25,
    }  # fmt: skip
    measured = {
        "made": made,
        "saturated_per_s": 5012.0,
        "steps": [{"open_calls": 64, "rate_per_s": 5012.0, "n_failed": 0, "p50_ms": 12.5, "p99_ms": 31.0}],
        "points": [point(0.1, 1.5), point(0.5, 2.0), point(1.2, 60.0)],
        "soak": {"rate_per_s": 2506.0, "seconds": 600.0, "memory": memory, "growth_percent": 1.25} | ended,
        "spike": {"rate_per_s": 1000.0, "times": 5.0, "begins_s": 0.5, "ends_s": 1.0, "recovery_s": 0.5} | ended,
    }
    return orjson.loads(orjson.dumps(measured))


def test_the_page_shows_saturation_latency_memory_and_recovery(load: Load) -> None:
    page = html(load)
    for shown in ("5,012", "8.0 ms", "+1.2 %", "0.5 s", "1,000,000 shoppers", "20 resource exhausted", "4.00 %"):
        assert shown in page, shown


def test_a_load_without_soak_and_spike_has_a_page_too(load: Load) -> None:
    load["soak"] = load["spike"] = None
    assert "A spike" not in html(load)


def test_a_late_generator_is_owned_up_to(load: Load) -> None:
    assert "no measurement of the gateway" not in html(load)
    load["points"][2]["is_generator_bound"] = True
    assert "At 120 % the generator itself was 0 ms late" in html(load)


def test_a_point_without_answers_is_shown_as_one(load: Load) -> None:
    load["points"].append(orjson.loads(orjson.dumps(point(1.3, math.nan))))
    assert load["points"][-1]["p99_ms"] is None
    assert "130 %" in html(load)
    svg(load)


def test_the_picture_is_a_document_whose_lines_climb_with_the_latency(load: Load) -> None:
    root = ElementTree.fromstring(svg(load))
    drawn = [line.get("points", "").split() for line in root.iter(f"{SVG}polyline")]
    lines = [[tuple(map(float, dot.split(","))) for dot in dots] for dots in drawn]
    assert len(lines) == 3
    for line in lines:
        assert [x for x, _ in line] == sorted(x for x, _ in line)
        assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    median, p99, p999 = (line[0][1] for line in lines)
    assert median > p99 > p999


def test_the_picture_leaves_out_what_is_no_measurement(load: Load) -> None:
    late = copy.deepcopy(load)
    late["points"][2]["is_generator_bound"] = True
    root = ElementTree.fromstring(svg(late))
    assert [len(line.get("points", "").split()) for line in root.iter(f"{SVG}polyline")] == [2, 2, 2]
