"""The budget is never overspent by threads, and gets back what was spent on decisions that no disk took."""

import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from stratagem.v1 import strategy_pb2

from server.budget import Budget, StandingPlan
from server.state.embedded import EmbeddedStates
from tests.server.doors import N_SHOPPERS, PATIENT_S, Doors
from tests.tiny_repository import AS_OF_S

BUDGET_MICROS = 1_000_000
NAMES = [f"shopper-{number}" for number in range(N_SHOPPERS)]


def test_threads_and_processes_together_spend_the_budget_and_no_more(tmp_path: Path) -> None:
    states = EmbeddedStates(tmp_path, "vocabulary", 16)
    plan = StandingPlan("plan", 1.0, BUDGET_MICROS)
    budgets = [Budget(states, plan), Budget(states, plan)]  # as two workers over one store
    spent: list[int] = []

    def spend(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(60):
            cost_micros = rng.integers(0, 900, 16)
            carried = budgets[number % 2].reserve(cost_micros)
            assert carried[cost_micros == 0].all()
            spent.append(int(cost_micros[carried].sum()))

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for budget in budgets:
        budget.close()
    assert sum(spent) == states.spent_micros("plan")
    assert BUDGET_MICROS - 2 * 900 < sum(spent) <= BUDGET_MICROS  # the last cost of each may not fit
    states.close()


@pytest.mark.parametrize("method", ["Decide", "DecideBatch"])
def test_what_no_disk_took_costs_nothing(doors: Doors, method: str) -> None:
    at = {"time_s": AS_OF_S}
    (cost,) = doors.strategy.DecideBatch(strategy_pb2.DecideBatchRequest(shopper_ids=["shopper-3"], **at)).cost_micros
    assert cost > 0
    budget = doors.gateway.decider.budget
    before_micros = budget.left_micros
    doors.gateway.decider.log.close()
    requests = {
        "Decide": strategy_pb2.DecideRequest(shopper_id="shopper-3", **at),
        "DecideBatch": strategy_pb2.DecideBatchRequest(shopper_ids=NAMES, **at),
    }
    with pytest.raises(grpc.RpcError, match="must be open, got a closed one"):
        getattr(doors.strategy, method)(requests[method], timeout=PATIENT_S)
    assert budget.left_micros == before_micros
