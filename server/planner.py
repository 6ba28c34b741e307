"""Plans for everybody in the store, and the files that a plan lives in.

In: repository, models, states, a budget. Out: plan.json and assignments.parquet, both or neither.
Called by `stratagem plan`; the gateway reads what stands in the folder through `standing_plan`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from kernels.features import read_states
from server.batch import CONTACTS
from server.budget import NO_PLAN, StandingPlan
from server.encoding import Encoder
from server.problems import InvalidRequest, WrongPlan
from server.repository import Repository, open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from server.state.store import States
from server.strategy.actions import Action, Asking, KindName, Menu, menu_of
from server.strategy.catalogue import Bools, Ints
from server.strategy.plan import Plan, plan_of
from server.triton.client import PATIENT_S, Models

PLAN_FILE = "plan.json"
ASSIGNMENTS_FILE = "assignments.parquet"
MICROS = 1_000_000
MOST_BUDGET = 1e12


@dataclass(frozen=True)
class Planned:
    """A plan for an audience, with a name that depends on everything that went into it.

    plan_id      hash of the release, the moment, the budget, the economics and the audience's matrices, 12 hex digits
    shopper_ids  one per row of plan.chosen
    actions      what each shopper gets
    """

    plan_id: str
    release: str
    currency_code: str
    at_s: int
    plan: Plan
    shopper_ids: list[str]
    actions: list[Action]
    value_micros: Ints
    cost_micros: Ints


@dataclass(frozen=True)
class Audience:
    """Every shopper with the menu of every action, a menu per piece."""

    shopper_ids: list[str]
    menus: list[Menu]

    @property
    def value_micros(self) -> Ints:
        """The menus' values, (n_shoppers, n_actions)."""
        return np.concatenate([menu.value_micros for menu in self.menus])

    @property
    def cost_micros(self) -> Ints:
        """The menus' costs, (n_shoppers, n_actions)."""
        return np.concatenate([menu.cost_micros for menu in self.menus])

    @property
    def eligible(self) -> Bools:
        """What is allowed, (n_shoppers, n_actions)."""
        return np.concatenate([menu.eligible for menu in self.menus])

    @property
    def kinds(self) -> tuple[KindName, ...]:
        """Kind of each action; the same for every shopper, because all are asked for one moment."""
        return tuple(self.menus[0].kind(action) for action in range(self.menus[0].n_actions))

    def actions(self, chosen: Ints) -> list[Action]:
        """What each shopper's column means."""
        columns = iter(chosen.tolist())
        return [menu.action(row, next(columns)) for menu in self.menus for row in range(menu.value_micros.shape[0])]


def audience_of(
    repository: Repository,
    models: Models,
    states: States,
    settings: Settings,
    at_s: int,
    progress: Callable[[int], None],
) -> Audience:
    """Price every action for every shopper in the store, as the gateway would at `at_s` with money left.

    progress  called with the number of shoppers done so far
    raises    ModelUnavailable  if Triton does not answer; InvalidRequest  if the store is empty
    """
    catalogue, shopper_ids, menus = repository.catalogue, list[str](), list[Menu]()
    table, encoder = catalogue.offers_between(at_s, at_s), Encoder(models, states, repository.encoder)
    unbounded = np.iinfo(np.int64).max
    for piece in states.shopper_ids(settings.batch_rows):
        snapshot = encoder.freshened(piece, states.read(piece), PATIENT_S)
        moments = np.full(len(piece), at_s, np.int64)
        features, _ = read_states(snapshot.states, moments)
        predicted = models.predict(features, snapshot.encodings)
        sent = table.sent(len(piece), snapshot.sent_row, snapshot.sent_key)
        contacts = features[:, CONTACTS].astype(np.float64)
        asking = Asking(moments, sent, contacts, np.full(len(piece), unbounded))
        menus.append(menu_of(predicted, catalogue, table, asking, settings.economics))
        shopper_ids += piece
        progress(len(shopper_ids))
    if not shopper_ids:
        raise InvalidRequest(f"{settings.state} must hold at least one shopper, got none; load the shoppers first")
    return Audience(shopper_ids, menus)


def planned(repository: Repository, settings: Settings, audience: Audience, at_s: int, budget_micros: int) -> Planned:
    """Plan an audience under a budget.

    raises  InvalidRequest  if the budget is negative
    """
    if budget_micros < 0:
        raise InvalidRequest(f"budget_micros must be ≥ 0, got {budget_micros}")
    value, cost, eligible = audience.value_micros, audience.cost_micros, audience.eligible
    plan = plan_of(value, cost, eligible, audience.kinds, budget_micros)
    digest = hashlib.sha256(f"{repository.release} {at_s} {budget_micros} {asdict(settings.economics)}".encode())
    for part in (value.tobytes(), cost.tobytes(), eligible.tobytes(), "\n".join(audience.shopper_ids).encode()):
        digest.update(part)
    rows = np.arange(plan.chosen.size)
    return Planned(
        plan_id=digest.hexdigest()[:12],
        release=repository.release,
        currency_code=repository.catalogue.currency_code,
        at_s=at_s,
        plan=plan,
        shopper_ids=audience.shopper_ids,
        actions=audience.actions(plan.chosen),
        value_micros=value[rows, plan.chosen],
        cost_micros=cost[rows, plan.chosen],
    )


def micros_of(budget: float) -> int:
    """A budget in the shop's currency as whole micros.

    raises  InvalidRequest  if it is negative, infinite or not a number
    """
    if not 0 <= budget < MOST_BUDGET:
        raise InvalidRequest(f"budget must be in [0, {MOST_BUDGET:g}), got {budget:g}")
    return round(budget * MICROS)


def plan_everybody(
    settings: Settings, triton: str, at_s: int, budget_micros: int, progress: Callable[[int], None]
) -> Planned:
    """Plan for everybody in the settings' store and write the plan where the gateway finds it.

    triton         address of a ready Triton
    at_s           the moment to plan for, seconds since 1970 UTC
    budget_micros  what may be spent, ≥ 0
    progress       called with the number of shoppers priced so far
    """
    repository = open_repository(settings.repository)
    states = EmbeddedStates(settings.state, repository.vocabulary, settings.state_mib)
    try:
        audience = audience_of(repository, Models(triton), states, settings, at_s, progress)
    finally:
        states.close()
    made = planned(repository, settings, audience, at_s, budget_micros)
    write_plan(made, settings.plan)
    return made


def write_plan(made: Planned, folder: Path) -> None:
    """Write assignments.parquet, then plan.json with its hash: plan.json is the plan and never names half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{ASSIGNMENTS_FILE}.partial"
    assignments_of(made).write_parquet(partial)
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    partial.replace(folder / ASSIGNMENTS_FILE)
    partial = folder / f"{PLAN_FILE}.partial"
    partial.write_bytes(orjson.dumps(described(made) | {"assignments_sha256": digest}, option=orjson.OPT_INDENT_2))
    partial.replace(folder / PLAN_FILE)


def worth_seeing(made: Planned, n_shown: int = 3) -> list[str]:
    """Shoppers who get different things, the most valuable of each kind first; then the most valuable of all."""
    by_value = np.argsort(-made.value_micros, kind="stable").tolist()
    first_of: dict[KindName, int] = {}
    for row in by_value:
        first_of.setdefault(made.actions[row].kind, row)
    kinds: tuple[KindName, ...] = ("offer", "ad", "recommendations", "nothing", "social")
    rows = dict.fromkeys([first_of[kind] for kind in kinds if kind in first_of] + by_value[:n_shown])
    return [made.shopper_ids[row] for row in rows][:n_shown]


def assignments_of(made: Planned) -> pl.DataFrame:
    """Who gets what, a row per shopper, those who get nothing included."""
    return pl.DataFrame(
        {
            "shopper_id": made.shopper_ids,
            "kind": [action.kind for action in made.actions],
            "channel": [action.channel for action in made.actions],
            "offer_id": [action.offer_id or None for action in made.actions],
            "campaign_id": [action.campaign_id or None for action in made.actions],
            "category": [action.category or None for action in made.actions],
            "item_ids": [list(action.item_ids) for action in made.actions],
            "value_micros": made.value_micros,
            "cost_micros": made.cost_micros,
        },
        schema_overrides=dict.fromkeys(("channel", "offer_id", "campaign_id", "category"), pl.String)
        | {"item_ids": pl.List(pl.String)},
    )


def described(made: Planned) -> dict[str, object]:
    """plan.json: the certificate, the channels and the frontier. Money in micros but for the shadow price."""
    plan = made.plan
    return {
        "plan_id": made.plan_id,
        "release": made.release,
        "currency_code": made.currency_code,
        "at_s": made.at_s,
        "n_shoppers": len(made.shopper_ids),
        "budget_micros": plan.budget_micros,
        "shadow_price": plan.shadow_price,
        "spend_micros": plan.spend_micros,
        "value_micros": plan.value_micros,
        "dual_bound_micros": plan.dual_bound_micros,
        "gap_micros": plan.gap_micros,
        "channels": [asdict(channel) for channel in plan.channels],
        "frontier": [asdict(point) for point in plan.frontier],
    }


def standing_plan(folder: Path, release: str) -> StandingPlan:
    """The plan in a folder as the gateway uses it; without one, nothing that costs money is allowed.

    raises  WrongPlan  if plan.json cannot be read or was made with another release
    """
    file = folder / PLAN_FILE
    try:
        read = orjson.loads(file.read_bytes())
        plan = StandingPlan(str(read["plan_id"]), float(read["shadow_price"]), int(read["budget_micros"]))
        made_with = str(read["release"])
    except FileNotFoundError:
        return NO_PLAN
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise WrongPlan(f"{file} must be as `stratagem plan` writes it, got: {error!r}") from error
    if made_with != release:
        raise WrongPlan(f"release in {file} must be {release}, as in the model repository, got {made_with}; plan again")
    if not (plan.plan_id and 0 <= plan.shadow_price < float("inf") and plan.budget_micros >= 0):
        raise WrongPlan(f"plan_id, shadow_price and budget_micros in {file} must be set and ≥ 0, got {plan}")
    return plan
