"""Shoppers in the store, the release with ten actions and a plan: what every figure of the gateway is measured on.

In: how many shoppers, and an exported model repository. Out: folders that `python -m server` opens, made once and
kept until code or release change. Called by the gateway's benchmarks and tests.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import lmdb
import numpy as np
import orjson

from kernels.compiled import sources_digest
from kernels.event_history import COLUMNS, read_rings
from server.problems import WrongRepository, WrongState
from server.repository import Repository, open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from server.state.encodings import TENSORS, Encodings, no_encodings
from server.state.loading import shoppers_of
from server.state.shopper import Shopper
from server.strategy.catalogue import campaign_key
from server.triton.asking import ask_now
from server.triton.process import serving
from tests.load.ledgers import made_up_ledger
from tests.load.ten_actions import write_ten_actions

FOLDER = Path("build/bench")
FULL, QUICK = 1_000_000, 10_000
CHUNK = 20_000
# Real answers of the encoder, dealt out at random: what a vector says changes no timing, a million would take hours.
N_ENCODED = 2_048
SENT_SHARE = 0.3
SHADOW_PRICE = 1.5
BUDGET_MICROS = 10**15  # never spent: a benchmark is not about the end of a budget
BYTES_A_SHOPPER = 10_000
SEED = 5
_STATE = Path(__file__).resolve().parents[2] / "server" / "state"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Workload:
    """Where everything lies, and the moment that every decision is asked for.

    at_s       seconds since 1970 UTC; a request must name it, for the offers are live then
    state_mib  the store's largest size
    """

    n_shoppers: int
    repository: Path
    state: Path
    plan: Path
    at_s: int
    state_mib: int

    def shopper_id(self, shopper: int) -> str:
        """The id of one of the n_shoppers."""
        return f"shopper-{shopper:07d}"

    def settings(self, log: Path, **changes: object) -> Settings:
        """Settings of a gateway over it.

        log      folder for the decision log; a new one for each run
        changes  further settings, by name
        """
        fixed = {
            "repository": self.repository, "state": self.state, "plan": self.plan, "state_mib": self.state_mib,
            "log": log, "port": 0,
        }  # fmt: skip
        return Settings.model_validate(fixed | changes)

    def copied(self, folder: Path) -> "Workload":
        """The same with a store of its own: for runs that must not find what an earlier one left. Copies every byte."""
        shutil.copytree(self.state, folder)
        return replace(self, state=folder)


def prepared_workload(n_shoppers: int, exported: Path, say: Say, folder: Path = FOLDER) -> Workload:
    """Make what is missing or was made by other code, and return where it lies; a killed run continues.

    exported  what `stratagem export` wrote
    say       called with a sentence now and then
    raises    FileNotFoundError  if nothing was exported or the disk has too little room
    """
    repository = _ten_actions(exported, folder / "repository")
    state = folder / f"state-{n_shoppers}"
    workload = Workload(
        n_shoppers=n_shoppers,
        repository=repository.folder,
        state=state,
        plan=folder / "plan",
        at_s=repository.catalogue.as_of_s,
        state_mib=256 + n_shoppers * 2 * BYTES_A_SHOPPER // 2**20,
    )
    _write_plan(workload.plan, repository.release)
    _open_or_empty(workload, repository)
    _fill(workload, repository, say)
    return workload


def _open_or_empty(workload: Workload, repository: Repository) -> None:
    """Keep the store if today's code made it and opens it; else start an empty one."""
    key, stamp = _key(workload.n_shoppers, repository), workload.state / "made_by"
    if stamp.exists() and stamp.read_text() == key:
        try:
            EmbeddedStates(workload.state, repository.vocabulary, workload.state_mib).close()
        except WrongState:
            pass  # written under another layout
        else:
            return
    shutil.rmtree(workload.state, ignore_errors=True)
    _check_room(workload.state.parent, workload.n_shoppers)
    EmbeddedStates(workload.state, repository.vocabulary, workload.state_mib).close()
    stamp.write_text(key)


def _ten_actions(exported: Path, folder: Path) -> Repository:
    if not (exported / "manifest.json").exists():
        raise FileNotFoundError(f"{exported / 'manifest.json'} must exist; `make bench-inputs` writes it")
    made_from = folder / "made_from"
    source = hashlib.sha256((exported / "manifest.json").read_bytes() + _source("ten_actions.py")).hexdigest()
    try:
        if made_from.exists() and made_from.read_text() == source:
            return open_repository(folder)
    except WrongRepository:
        pass  # half a copy, or one that another release's code cannot read
    write_ten_actions(exported, folder)
    made_from.write_text(source)
    return open_repository(folder)


def _source(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()


def _key(n_shoppers: int, repository: Repository) -> str:
    """Changes with everything that the stored bytes depend on."""
    digest = hashlib.sha256(f"{n_shoppers} {repository.vocabulary} {repository.encoder}".encode())
    kernels = Path(__file__).resolve().parents[2] / "kernels"
    digest.update(sources_digest(kernels).encode())
    for name in ("shopper.py", "encodings.py", "loading.py"):
        digest.update((_STATE / name).read_bytes())
    digest.update(_source("ledgers.py") + _source("workload.py"))
    return digest.hexdigest()


def _check_room(folder: Path, n_shoppers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, int(1.5 * n_shoppers * BYTES_A_SHOPPER)
    if free < needed:
        raise FileNotFoundError(f"{folder} must have {needed / 1e9:.1f} GB free, got {free / 1e9:.1f} GB")


def _write_plan(folder: Path, release: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"plan_id": "benchmark", "release": release, "shadow_price": SHADOW_PRICE, "budget_micros": BUDGET_MICROS}
    (folder / "plan.json").write_bytes(orjson.dumps(plan))


def _fill(workload: Workload, repository: Repository, say: Say) -> None:
    """Write chunk after chunk, each in one transaction; what stands from an earlier run stays."""
    env = lmdb.open(str(workload.state), map_size=workload.state_mib * 2**20, max_dbs=5, sync=False)
    shoppers, encodings = (env.open_db(name) for name in (b"shoppers", b"encodings"))
    try:
        with env.begin() as transaction:
            first = int(transaction.stat(shoppers)["entries"])
        if first >= workload.n_shoppers:
            return
        encoded = _encoded(repository, say)
        for start in range(first, workload.n_shoppers, CHUNK):
            made = _chunk(workload, repository, start, encoded)
            with env.begin(write=True) as transaction:
                for shopper_id, value, encoding in made:
                    transaction.put(shopper_id, value, db=shoppers, append=True)
                    transaction.put(shopper_id, encoding, db=encodings, append=True)
            say(f"{min(start + CHUNK, workload.n_shoppers):,} of {workload.n_shoppers:,} shoppers stand in the store")
        env.sync(True)
    finally:
        env.close()


def _chunk(
    workload: Workload, repository: Repository, start: int, encoded: Encodings
) -> list[tuple[bytes, bytes, bytes]]:
    """Ids, values and fresh encodings of CHUNK shoppers; the same whichever run makes them."""
    rng = np.random.default_rng([SEED, start])
    made = _shoppers(workload, repository, start, rng)
    dealt = encoded[rng.integers(0, encoded.size, len(made))]
    dealt["n_events"] = [int(shopper.ring["clock"][0, 0]) for _, shopper in made]
    dealt["encoder"] = repository.encoder.encode()
    return [
        (shopper_id.encode(), shopper.to_bytes(), encoding.tobytes())
        for (shopper_id, shopper), encoding in zip(made, dealt, strict=True)
    ]


def _shoppers(
    workload: Workload, repository: Repository, start: int, rng: np.random.Generator
) -> list[tuple[str, Shopper]]:
    n_shoppers = min(CHUNK, workload.n_shoppers - start)
    ids = [workload.shopper_id(start + shopper) for shopper in range(n_shoppers)]
    ledger = made_up_ledger(n_shoppers, repository.catalogue.items, workload.at_s, rng)
    keys = np.array([campaign_key(offer.campaign_id) for offer in repository.catalogue.offers], np.uint64)
    has_sent = np.flatnonzero(rng.random(n_shoppers) < SENT_SHARE)
    sent = {ids[shopper]: keys[rng.integers(0, keys.size, 3)] for shopper in has_sent.tolist()}
    return list(shoppers_of(ledger, ids, sent, repository.catalogue.items))


def _encoded(repository: Repository, say: Say) -> Encodings:
    """What the release's encoder makes of N_ENCODED such shoppers, from a real Triton."""
    say(f"a Triton encodes {N_ENCODED:,} shoppers; the others get one of their vectors")
    rng = np.random.default_rng([SEED, 0, 1])
    ledger = made_up_ledger(N_ENCODED, repository.catalogue.items, repository.catalogue.as_of_s, rng)
    ids = [str(shopper) for shopper in range(N_ENCODED)]
    rings = np.concatenate([made.ring for _, made in shoppers_of(ledger, ids, {}, repository.catalogue.items)])
    events = read_rings(rings)
    with serving(repository.folder, ["encoder"]) as triton:
        answers = ask_now(triton, "encoder", {f"event_{name}": getattr(events, name) for name in COLUMNS})
    encodings = no_encodings(N_ENCODED)
    for name in TENSORS:
        encodings[name] = answers[name]
    return encodings


if __name__ == "__main__":
    prepared_workload(FULL, Path("model_repository"), print)
