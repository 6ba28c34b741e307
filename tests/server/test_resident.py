"""Pages of the store are given back while it is read and written, and every read stays right."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.repository import open_repository
from server.state.embedded import EmbeddedStates
from server.state.resident import LOOK_EVERY, Resident
from tests.server.doors import orders

N_SHOPPERS = 600
MIB = 2**20


def mapped_mib(file: Path) -> float:
    """How much of a file counts as this process's memory, as the kernel says it."""
    total, is_ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            is_ours = rest.endswith(str(file.resolve()))
        elif is_ours and name == "Rss:":
            total += int(rest.split()[0])
    return total / 1024


@pytest.fixture
def states(tmp_path: Path, tiny_repository: Path) -> Iterator[EmbeddedStates]:
    """A store of some five MiB, of which two may be mapped."""
    repository = open_repository(tiny_repository)
    states = EmbeddedStates(tmp_path / "state", repository.vocabulary, 64, resident_mib=2)
    states.apply(orders(repository.catalogue.items, N_SHOPPERS)).result()
    yield states
    states.close()


def ids() -> list[str]:
    """Everybody in the store."""
    return [f"shopper-{number}" for number in range(N_SHOPPERS)]


def test_memory_stays_below_the_bound_however_much_is_read(states: EmbeddedStates, tmp_path: Path) -> None:
    for _ in range(5):
        for start in range(0, N_SHOPPERS, 50):
            states.read(ids()[start : start + 50])
            states.rings(ids()[start : start + 50])
            # Between two looks as many rows as LOOK_EVERY may be read, each on five pages at most.
            assert mapped_mib(tmp_path / "state" / "data.mdb") <= 2 + LOOK_EVERY * 5 * 4096 / MIB + 1


def test_a_store_without_a_bound_keeps_what_was_read(tmp_path: Path, tiny_repository: Path) -> None:
    repository = open_repository(tiny_repository)
    states = EmbeddedStates(tmp_path / "state", repository.vocabulary, 64)
    states.apply(orders(repository.catalogue.items, N_SHOPPERS)).result()
    states.rings(ids())
    assert mapped_mib(tmp_path / "state" / "data.mdb") > 3
    states.close()


def test_giving_back_leaves_nothing_mapped(states: EmbeddedStates, tmp_path: Path) -> None:
    file = tmp_path / "state" / "data.mdb"
    resident = Resident(file, 1)
    states.rings(ids()[:100])
    assert mapped_mib(file) > 0.3
    resident.trim()
    assert mapped_mib(file) == 0
    resident.close()


def test_reads_stay_right_while_pages_are_given_back_and_written(
    states: EmbeddedStates, tmp_path: Path, tiny_repository: Path
) -> None:
    before, rings = states.read(ids()), states.rings(ids())
    resident = Resident(tmp_path / "state" / "data.mdb", 1)
    is_over = threading.Event()

    def trim_on() -> None:
        while not is_over.is_set():
            resident.trim()

    def write_on() -> None:
        repository = open_repository(tiny_repository)
        for number in range(20):
            others = [
                replace(happening, shopper_id=f"other-{number}-{n}", event_id=f"other-{number}-{n}")
                for n, happening in enumerate(orders(repository.catalogue.items, 4))
            ]
            states.apply(others).result()

    threads = [threading.Thread(target=trim_on), threading.Thread(target=write_on)]
    for thread in threads:
        thread.start()
    try:
        n_reads = 0
        while threads[1].is_alive() or n_reads < 30:
            n_reads += 1
            now = states.read(ids())
            np.testing.assert_array_equal(now.states, before.states)
            np.testing.assert_array_equal(now.last_event_s, before.last_event_s)
            assert states.rings(ids()).tobytes() == rings.tobytes()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert resident.n_trims > 10
    resident.close()
