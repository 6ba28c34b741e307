"""What was acknowledged is kept: across kills, torn and altered tails, full disks and full stores."""

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from stratagem.v1 import event_pb2, feedback_pb2, feedback_pb2_grpc, strategy_pb2, strategy_pb2_grpc

from server.feedback import framed, payloads_of, read_log, segments_of
from server.repository import open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from tests.server.doors import N_SHOPPERS, PATIENT_S, open_doors
from tests.server.supervised import started, supervised, until
from tests.tiny_repository import AS_OF_S

ALONE = (("grpc.use_local_subchannel_pool", 1),)
N_KILLS = 3
N_EVENTS = 100


def view(event_id: str, shopper_id: str = "shopper-1") -> event_pb2.Event:
    """A shopper looks at something."""
    kind = event_pb2.EVENT_KIND_VIEW
    return event_pb2.Event(event_id=event_id, shopper_id=shopper_id, time_s=AS_OF_S, kind=kind, item_id="item-1")


@dataclass
class Caller:
    """Decides and records, one after the other, on a connection of its own; keeps what was acknowledged."""

    address: str
    name: str
    decided: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)

    def run(self, is_over: threading.Event) -> None:
        """Call until it is over; what fails is not repeated."""
        with grpc.insecure_channel(self.address, options=ALONE) as channel:
            decide = strategy_pb2_grpc.StrategyServiceStub(channel).Decide
            record = feedback_pb2_grpc.FeedbackServiceStub(channel).Record
            number = 0
            while not is_over.is_set():
                number += 1
                name, shopper_id = f"{self.name}-{number}", f"shopper-{number % N_SHOPPERS}"
                try:
                    decide(
                        strategy_pb2.DecideRequest(shopper_id=shopper_id, decision_id=name, time_s=AS_OF_S), timeout=5
                    )
                    self.decided.append(name)
                    record(feedback_pb2.RecordRequest(events=[view(name, shopper_id)]), timeout=5)
                    self.recorded.append(name)
                except grpc.RpcError:
                    is_over.wait(0.01)


@contextmanager
def calling(address: str, n_callers: int) -> Iterator[list[Caller]]:
    """Callers for the length of a block."""
    callers, is_over = [Caller(address, f"caller-{number}") for number in range(n_callers)], threading.Event()
    threads = [threading.Thread(target=caller.run, args=(is_over,)) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        yield callers
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def seen(settings: Settings, event_ids: list[str]) -> list[bool]:
    """Which events the store knows."""
    states = EmbeddedStates(settings.state, open_repository(settings.repository).vocabulary, settings.state_mib)
    try:
        return states.seen(event_ids)
    finally:
        states.close()


def test_workers_killed_under_load_lose_nothing_they_acknowledged(
    filled: Settings, tiny_triton: str, tmp_path: Path
) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said") as server, calling(server.address, 6) as callers:
        for n_kills in range(1, N_KILLS + 1):
            before = sum(len(caller.recorded) for caller in callers)
            until(lambda before=before: sum(len(caller.recorded) for caller in callers) > before + 30)  # type: ignore[misc]
            os.kill(server.workers()[0], signal.SIGKILL)
            until(lambda n_kills=n_kills: server.said().count("listening on") == 2 + n_kills)  # type: ignore[misc]
    decided = {name for caller in callers for name in caller.decided}
    recorded = {name for caller in callers for name in caller.recorded}
    logged: dict[str, set[object]] = {"decision": set(), "event": set()}
    for record in read_log(filled.log):
        logged[str(record["kind"])].add(record["decision_id"] if record["kind"] == "decision" else record["event_id"])
    assert len(recorded) > 30 * N_KILLS
    assert decided - logged["decision"] == set()
    assert recorded - logged["event"] == set()
    assert all(seen(filled, sorted(recorded)))


@pytest.fixture
def segment(filled: Settings, tiny_triton: str) -> Path:
    """The segment of a log that holds three blocks of decisions and an event before the last."""
    with open_doors(filled, tiny_triton) as doors:
        for number in range(3):
            if number == 2:
                doors.feedback.Record(feedback_pb2.RecordRequest(events=[view("event")]), timeout=PATIENT_S)
            request = strategy_pb2.DecideRequest(
                shopper_id=f"shopper-{number}", decision_id=f"d-{number}", time_s=AS_OF_S
            )
            doors.strategy.Decide(request, timeout=PATIENT_S)
    (segment,) = segments_of(filled.log)
    return segment


def test_a_block_cut_at_any_byte_is_gone_and_all_before_it_stand(segment: Path) -> None:
    whole = segment.read_bytes()
    *before, last = payloads_of(segment)
    assert len(before) == 3
    for size in range(len(whole) - 1, len(whole) - len(framed(last)) - 1, -1):
        os.truncate(segment, size)
        assert sum(1 for _ in payloads_of(segment)) == 3
    assert list(payloads_of(segment)) == before


def test_a_block_with_any_byte_altered_is_gone_and_all_before_it_stand(segment: Path) -> None:
    whole = segment.read_bytes()
    *before, last = payloads_of(segment)
    for at in range(len(whole) - len(framed(last)), len(whole)):
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(bytes([whole[at] ^ (1 << at % 8)]))
        assert list(payloads_of(segment)) == before, f"byte {at}"
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(whole[at : at + 1])
    assert list(payloads_of(segment)) == [*before, last]


@pytest.mark.parametrize("n_kept", [0, 5, 8, 9, 400, -1])
def test_a_gateway_goes_on_behind_a_torn_block(
    filled: Settings, tiny_triton: str, segment: Path, n_kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    *_, last = payloads_of(segment)
    n_torn = len(framed(last)) - n_kept if n_kept >= 0 else 1
    os.truncate(segment, segment.stat().st_size - n_torn)
    with open_doors(filled, tiny_triton) as doors:
        request = strategy_pb2.DecideRequest(shopper_id="shopper-3", decision_id="after", time_s=AS_OF_S)
        doors.strategy.Decide(request, timeout=PATIENT_S)
    kept = [record.get("decision_id") or record["event_id"] for record in read_log(filled.log)]
    assert kept == ["d-0", "d-1", "event", "after"]
    assert ("of a torn tail" in caplog.text) == (n_kept != 0)


class Disk:
    """A folder on a disk that can be filled and freed.

    A small filesystem in memory where we may mount one, else a limit on the size of the gateway's files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
        self._is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self, pid: int) -> None:
        """Leave no room for what the process writes."""
        if not self._is_mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return
        with (self.folder / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while ballast.write(bytes(4096)):
                pass

    def free(self, pid: int) -> None:
        """Make room again."""
        if self._is_mounted:
            (self.folder / "ballast").unlink()
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def close(self) -> None:
        """Unmount."""
        if self._is_mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of its own."""
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.close()


def refused(call: Callable[[], object]) -> str:
    """The sentence with which a call is refused as UNAVAILABLE."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    assert isinstance(raised.value, grpc.Call)
    assert raised.value.code() is StatusCode.UNAVAILABLE
    return str(raised.value.details())


def test_a_full_disk_is_said_and_served_behind(filled: Settings, tiny_triton: str, tmp_path: Path, disk: Disk) -> None:
    log = disk.folder / "log"
    with started(filled.model_copy(update={"log": log}), tiny_triton, tmp_path / "said") as process:
        assert process.stdout is not None
        with grpc.insecure_channel(process.stdout.readline().strip()) as channel:
            decide = strategy_pb2_grpc.StrategyServiceStub(channel).Decide
            record = feedback_pb2_grpc.FeedbackServiceStub(channel).Record

            def decided(name: str) -> object:
                request = strategy_pb2.DecideRequest(shopper_id="shopper-1", decision_id=name, time_s=AS_OF_S)
                return decide(request, timeout=PATIENT_S)

            def recorded(name: str) -> object:
                # More than the rest of the segment's last page, which no other file can take from it.
                events = [view(f"{name}-{number}") for number in range(N_EVENTS)]
                return record(feedback_pb2.RecordRequest(events=events), timeout=PATIENT_S)

            decided("before")
            disk.fill(process.pid)
            said = [
                refused(lambda: decided("full-1")),
                refused(lambda: recorded("full-2")),
                refused(lambda: decided("again")),
            ]
            disk.free(process.pid)
            decided("again")
            recorded("after")
        assert process.poll() is None
    assert all(sentence.startswith(f"the log in {log} must take ") for sentence in said)
    kept = [record.get("decision_id") or record["event_id"] for record in read_log(log)]
    assert kept == ["before", "again", *(f"after-{number}" for number in range(N_EVENTS))]
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_a_full_store_is_said_and_a_larger_one_takes_the_event(
    filled: Settings, tiny_triton: str, tmp_path: Path
) -> None:
    said = ""
    with started(filled.model_copy(update={"state_mib": 1}), tiny_triton, tmp_path / "said") as process:
        assert process.stdout is not None
        with grpc.insecure_channel(process.stdout.readline().strip()) as channel:
            record = feedback_pb2_grpc.FeedbackServiceStub(channel).Record
            number = 0
            while not said and number < 1000:
                number += 1
                events = [view(f"event-{number}", f"new-{number}")]
                try:
                    record(feedback_pb2.RecordRequest(events=events), timeout=PATIENT_S)
                except grpc.RpcError:
                    said = refused(
                        lambda events=events: record(feedback_pb2.RecordRequest(events=events), timeout=PATIENT_S)
                    )  # type: ignore[misc]
            # A store that takes nothing more is read as ever; a decision that costs finds no budget there.
            decide = strategy_pb2_grpc.StrategyServiceStub(channel).Decide
            asks = [strategy_pb2.DecideRequest(shopper_id=f"shopper-{n}", time_s=AS_OF_S) for n in range(N_SHOPPERS)]
            answers = [decide(ask, timeout=PATIENT_S).decision for ask in asks]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert said.startswith(f"the state in {filled.state} must take a change, got: ")
    assert len(answers) == N_SHOPPERS
    assert "Traceback" not in (tmp_path / "said").read_text()
    with open_doors(filled, tiny_triton) as doors:
        again = feedback_pb2.RecordRequest(events=[view(f"event-{number}", f"new-{number}")])
        (result,) = doors.feedback.Record(again, timeout=PATIENT_S).events
    assert result.status == feedback_pb2.RECORD_STATUS_RECORDED
    assert all(seen(filled, [f"event-{n}" for n in range(1, number + 1)]))
    assert {record["event_id"] for record in read_log(filled.log) if record["kind"] == "event"} >= {f"event-{number}"}
