"""Asks a running gateway, for people: `stratagem decide` and `stratagem demo`.

In: an address and shopper ids. Out: Decision messages, their parts in words, and how long calls took.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.problems import ModelUnavailable
from server.settings import Settings
from server.strategy.reasons import money, percent

CALL_WITHIN_S = 10.0
STOPS_WITHIN_S = 30.0


class Refused(Exception):  # noqa: N818 - like every problem, it says what happened
    """The gateway does not answer, or answers that it will not."""


def decisions(address: str, shopper_ids: Sequence[str], at_s: int) -> list[strategy_pb2.Decision]:
    """One decision per shopper, in order.

    raises  Refused  with the gateway's own sentence, or that nothing answers
    """
    with grpc.insecure_channel(address) as channel:
        stub = strategy_pb2_grpc.StrategyServiceStub(channel)
        return [_decide(stub, address, shopper_id, at_s) for shopper_id in shopper_ids]


def _decide(
    stub: strategy_pb2_grpc.StrategyServiceStub, address: str, shopper_id: str, at_s: int
) -> strategy_pb2.Decision:
    request = strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=at_s)
    try:
        answer: strategy_pb2.DecideResponse = stub.Decide(request, timeout=CALL_WITHIN_S)
    except grpc.RpcError as error:
        raise Refused(f"{address} answers {error.code().name}: {error.details()}") from None
    return answer.decision


def latency_ms(address: str, shopper_ids: Sequence[str], at_s: int, n_calls: int) -> list[float]:
    """Milliseconds of each of n_calls decisions, one at a time; as many again were made before to warm the channel."""
    taken = []
    with grpc.insecure_channel(address) as channel:
        stub = strategy_pb2_grpc.StrategyServiceStub(channel)
        for call in range(2 * n_calls):
            began = time.perf_counter()
            _decide(stub, address, shopper_ids[call % len(shopper_ids)], at_s)
            taken.append((time.perf_counter() - began) * 1000)
    return taken[n_calls:]


def action_in_words(decision: strategy_pb2.Decision) -> str:
    """What is done, as an instruction to a person."""
    action = decision.action
    words = {
        strategy_pb2.ACTION_KIND_OFFER: f"Send the offer: {action.title or action.offer_id}",
        strategy_pb2.ACTION_KIND_AD: f"Show an ad for {action.category}",
        strategy_pb2.ACTION_KIND_RECOMMENDATIONS: f"Recommend {action.title or ', '.join(action.item_ids)}",
        strategy_pb2.ACTION_KIND_SOCIAL: "Write on a social network",
    }
    return words.get(action.kind, "Do nothing")


def economics_in_words(decision: strategy_pb2.Decision) -> list[tuple[str, str]]:
    """The decision's economics as labels and formatted amounts."""
    code = decision.currency_code
    return [
        ("expected extra margin", money(decision.value_micros, code)),
        ("expected cost", money(decision.cost_micros, code)),
        ("price of budget (λ)", f"{decision.shadow_price:.3g}"),
        ("left after the price", money(decision.score_micros, code)),
        ("the runner-up leaves", money(decision.runner_up.score_micros, code)),
        ("chance of this action", percent(decision.propensity)),
    ]


@contextmanager
def gateway_process(settings: Settings, triton: str, log: Path) -> Iterator[str]:
    """A gateway in a process of its own, as an operator would run it; yields its address and ends with the block.

    triton  address of the Triton it shares with us
    log     what the gateway says
    raises  ModelUnavailable  if it ends before it listens
    """
    names = ("repository", "state", "log", "plan", "triton", "host", "port")
    places = {f"STRATAGEM_{name.upper()}": str(getattr(settings, name)) for name in names}
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "server"],
            env=os.environ | places | {"TRITON_URL": triton},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process,
    ):
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            if not address:
                raise ModelUnavailable(f"the gateway must listen, but it ended: see {log}")
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOPS_WITHIN_S)
