"""The log's Parquet says what the log says, each segment's file is made once, and half a file is never seen."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from stratagem.v1 import strategy_pb2

from server.decision_block import ENCODED, block_from, rows_of
from server.feedback import FeedbackLog, payloads_of, read_log, segments_of, writers_of
from server.log_export import decisions_frame, export_log, exported
from server.settings import Settings
from tests.server.doors import N_SHOPPERS, PATIENT_S, open_doors
from tests.tiny_repository import AS_OF_S


def decided(settings: Settings, triton: str, n_calls: int) -> None:
    """Let a gateway decide, one by one, so that its log holds a block for each."""
    with open_doors(settings, triton) as doors:
        for number in range(n_calls):
            request = strategy_pb2.DecideRequest(shopper_id=f"shopper-{number % N_SHOPPERS}", time_s=AS_OF_S)
            doors.strategy.Decide(request, timeout=PATIENT_S)


@pytest.fixture
def logged(filled: Settings, tiny_triton: str) -> Settings:
    """Settings whose log holds decisions of every shopper, drawn ones among them, and safe defaults."""
    decided(filled.model_copy(update={"explore_share": 0.5}), tiny_triton, 2 * N_SHOPPERS)
    decided(filled, "127.0.0.1:1", 3)
    return filled


def blocks(folder: Path) -> Iterator[bytes]:
    """Every block of decisions in a log."""
    for writer in writers_of(folder):
        for segment in segments_of(writer):
            yield from payloads_of(segment)


def test_a_block_as_columns_says_what_its_rows_say(logged: Settings) -> None:
    rungs = set()
    for payload in blocks(logged.log):
        frame = decisions_frame(block_from(payload))
        for told, row in zip(frame.to_dicts(), rows_of(payload), strict=True):
            rungs.add(row["rung"])
            eligible, action = row.pop("eligible", None), row.pop("action")
            features, encoding = row.pop("features", None), row.pop("encoding", None)
            assert orjson.loads(told["action"]) == action
            if isinstance(eligible, dict):
                assert {name: told[f"eligible_{name}"] for name in eligible} == eligible
                assert features is not None
                assert encoding is not None
                assert np.array(told["features"], np.float32).size == 251
                assert set(ENCODED) <= set(told)
            assert {name: told[name] for name in row} == row
    assert rungs == {"full", "safe_default"}


def test_every_record_is_in_the_files_once(logged: Settings, tmp_path: Path) -> None:
    second = FeedbackLog(logged.log / "writer-1")
    second.append("event", [{"event_id": "a", "time_s": 5}, {"event_id": "b", "time_s": 6}]).result()
    second.append("event", [{"event_id": "a", "time_s": 5}]).result()
    second.close()
    told: list[int] = []
    counts = export_log(logged.log, tmp_path / "out", told.append)
    in_log = list(read_log(logged.log))
    decisions = exported(tmp_path / "out", "decision").collect()
    assert decisions["decision_id"].to_list() == [row["decision_id"] for row in in_log if row["kind"] == "decision"]
    assert decisions["propensity"].to_list() == [row["propensity"] for row in in_log if row["kind"] == "decision"]
    events = exported(tmp_path / "out", "event").collect()
    assert events.to_dicts() == [{"event_id": "a", "time_s": 5}, {"event_id": "b", "time_s": 6}]
    assert counts == {"decision": decisions.height, "event": 3, "exposure": 0, "outcome": 0}
    assert told == [decisions.height, decisions.height + 3]
    assert exported(tmp_path / "out", "outcome").collect().is_empty()


def test_a_closed_segment_is_exported_once_and_the_newest_again(tmp_path: Path) -> None:
    def write(first: int, n_records: int) -> None:
        log = FeedbackLog(tmp_path / "log", segment_mib=1)
        for number in range(first, first + n_records):
            log.append("event", [{"event_id": str(number), "filler": "x" * 100_000}]).result()
        log.close()

    write(0, 25)
    export_log(tmp_path / "log", tmp_path / "out")
    closed, newest = segments_of(tmp_path / "log")[:-1], segments_of(tmp_path / "log")[-1]
    assert len(closed) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "events").iterdir()}
    write(25, 1)
    for segment in closed:
        segment.unlink()  # whoever has exported a segment may archive it
        segment.touch()
    export_log(tmp_path / "log", tmp_path / "out")
    changed = {path.stem for path, moment in before.items() if path.stat().st_mtime_ns != moment}
    assert changed == {f"writer-0-{newest.stem}"}
    ids = exported(tmp_path / "out", "event").collect()["event_id"].to_list()
    assert ids == [str(number) for number in range(26)]


def test_a_killed_export_leaves_no_half_file(tmp_path: Path) -> None:
    log = FeedbackLog(tmp_path / "log")
    log.append("event", [{"event_id": "a"}]).result()
    log.close()
    folder = tmp_path / "out" / "events"
    folder.mkdir(parents=True)
    (folder / "writer-0-00000001.parquet.partial").write_bytes(b"PAR1 half a file")
    export_log(tmp_path / "log", tmp_path / "out")
    assert pl.read_parquet(folder / "*.parquet").to_dicts() == [{"event_id": "a"}]
    assert not list(folder.glob("*.partial"))
