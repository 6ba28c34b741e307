"""One rate for all workers: what one pays out the others see, without a lock that a killed one could keep."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.access.gate import Access
from server.access.keys import new_key
from server.access.rates import Bucket
from server.access.tally import Seat, Tallies
from server.problems import RateExceeded, WrongSettings
from server.settings import Settings
from tests.server.access.guarded import DECIDE

N_WORKERS = 3
BURST = 20_000
EARLY = 100
# A worker that asks for one row after another at a time that stands still, says how many it got, and stays.
WORKER = f"""
import sys
from pathlib import Path
from server.access.rates import Bucket
from server.access.tally import Seat, Tallies
bucket = Bucket(1.0, {BURST}.0, 0.0, Tallies(Seat(Path(sys.argv[1]), int(sys.argv[2]), {N_WORKERS})).of("bidder"))
print("ready", flush=True)
sys.stdin.readline()
n_paid = 0
while bucket.take(1, 0.0) == 0:
    n_paid += 1
    if n_paid == {EARLY}:
        print("going", flush=True)
print(n_paid, flush=True)
sys.stdin.readline()
"""

Worker = subprocess.Popen[str]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Worker]]:
    """Workers of one tally, each ready to ask."""
    with ExitStack() as stack:
        started = []
        for number in range(N_WORKERS):
            command = [sys.executable, "-c", WORKER, str(tmp_path / "tally"), str(number)]
            worker = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(worker.kill)
            started.append(worker)
        assert [said(worker) for worker in started] == ["ready"] * N_WORKERS
        yield started


def said(worker: Worker) -> str:
    """Its next line."""
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def paid(worker: Worker) -> int:
    """How many rows it got in the end."""
    line = said(worker)
    return int(said(worker) if line == "going" else line)


def go(worker: Worker) -> None:
    """Let it go on."""
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


def test_workers_together_pay_out_one_burst(workers: list[Worker]) -> None:
    for worker in workers:
        go(worker)
    n_paid = sum(paid(worker) for worker in workers)
    # Each may take one row while another's is on its way to it.
    assert BURST <= n_paid <= BURST + N_WORKERS


def test_a_killed_worker_leaves_nothing_locked_and_what_it_paid_counted(workers: list[Worker], tmp_path: Path) -> None:
    go(workers[0])
    assert said(workers[0]) == "going"
    workers[0].kill()
    workers[0].wait()
    go(workers[1])
    assert paid(workers[1]) <= BURST - EARLY, "what the killed one paid counts"
    go(workers[2])
    assert paid(workers[2]) == 0
    bucket = Bucket(1.0, 10.0, 0.0, Tallies(Seat(tmp_path / "tally", 0, N_WORKERS)).of("bidder"))
    assert bucket.take(10, 0.0) == 0, "a worker in its place starts anew"
    assert bucket.take(1, 0.0) == 1.0


@settings(deadline=None)  # this machine is shared
@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, N_WORKERS - 1), st.integers(0, 50)), max_size=60),
    burst=st.integers(1, 60),
)
def test_workers_that_look_equal_one_bucket(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]], burst: int
) -> None:
    path = tmp_path_factory.mktemp("tally") / "tally"
    buckets = [
        Bucket(8.0, burst, 0.0, Tallies(Seat(path, worker, N_WORKERS)).of("bidder")) for worker in range(N_WORKERS)
    ]
    single = Bucket(8.0, burst, 0.0)
    times = accumulate(quarters / 4 for quarters, _, _ in steps)  # exact in floats
    for now_s, (_, worker, n) in zip(times, steps, strict=True):
        waits = {bucket.wait_s(n, now_s) for bucket in buckets}
        assert waits == {single.wait_s(n, now_s)}
        assert buckets[worker].take(n, now_s) == single.take(n, now_s)


def test_a_worker_long_idle_does_not_owe_what_the_rate_already_paid(tmp_path: Path) -> None:
    busy, idle = (
        Bucket(100.0, 50.0, 0.0, Tallies(Seat(tmp_path / "tally", worker, 2)).of("bidder")) for worker in range(2)
    )
    for second in range(3600):
        assert busy.take(50, second / 2) == 0
    assert idle.take(1, 1800.0) == 0


def test_clients_do_not_share_a_row(tmp_path: Path) -> None:
    here, there = (Tallies(Seat(tmp_path / "tally", worker, 2)) for worker in range(2))
    names = [f"client-{number}" for number in range(2000)]  # some of them meet at the same row
    mine, theirs = ([tallies.of(name) for name in names] for tallies in (here, there))
    for number, tally in enumerate(mine):
        assert tally is not None
        tally.add(number)
    assert [tally.paid_by_others() for tally in theirs if tally] == list(range(2000))


def test_one_client_more_than_there_are_rows_has_a_rate_per_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.access.tally.ROWS", 2)
    tallies = Tallies(Seat(tmp_path / "tally", 0, 2))
    found = [tallies.of(name) is not None for name in ("bidder", "shop", "bidder", "auditor")]
    assert found == [True, True, True, False]


def test_a_file_of_other_workers_is_refused(tmp_path: Path) -> None:
    Tallies(Seat(tmp_path / "tally", 0, 2))
    with pytest.raises(WrongSettings, match=r"the tally must be of 3 workers, got a file of other size"):
        Tallies(Seat(tmp_path / "tally", 0, 3))
    with pytest.raises(WrongSettings, match=r"the tally must be a file we can write, got .*: No such file"):
        Tallies(Seat(tmp_path / "none" / "tally", 0, 3))


def test_gates_of_two_workers_keep_one_rate(tmp_path: Path) -> None:
    key, entry = new_key("bidder", ["strategy"])
    (tmp_path / "clients.toml").write_text(entry)
    chosen = Settings(api_keys=tmp_path / "clients.toml", rate_per_s=10.0)
    gates = [Access(chosen, lambda: 0.0, seat=Seat(tmp_path / "tally", worker, 2)) for worker in range(2)]
    sent = [("authorization", f"Bearer {key}")]
    callers = [gate.admit(DECIDE, sent) for gate in gates]
    callers[0].take(10, 0.0)
    for gate in gates:
        with pytest.raises(RateExceeded):
            gate.admit(DECIDE, sent)
