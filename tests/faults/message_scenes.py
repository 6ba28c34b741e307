"""What becomes of a gateway that is sent what no client means: mutated messages, mutated frames.

In: a stage, and the share of the full counts. Out: figures. Run by test_message_faults.py and the benchmark.
"""

import select
import socket
import time
from collections import Counter
from collections.abc import Sequence

import grpc
import numpy as np
from stratagem.v1 import event_pb2, feedback_pb2, profile_pb2, recommendation_pb2, risk_pb2, strategy_pb2

from server.load.http2 import Connection
from server.load.memory import sampled
from server.load.target import Target, framed
from server.load.wire_caller import connected
from tests.faults.figures import Figures
from tests.faults.mutations import fields_of, mutated, raw_requests
from tests.faults.observed import Observed
from tests.faults.stage import Stage, within

FULL_MESSAGES, FULL_CONNECTIONS = 1_000_000, 200_000
PATIENT_S, CLOSES_WITHIN_S, SETTLES_WITHIN_S = 10.0, 1.0, 15.0
IN_FLIGHT, CHUNK = 32, 1_000
NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
# What a client's mistake may end with; anything else would be ours.
NAMED = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "UNAVAILABLE",
}  # fmt: skip


def samples(stage: Stage) -> dict[str, list[bytes]]:
    """Valid messages of every method, to be mutated."""
    ids, at_s = stage.shopper_ids, stage.at_s
    asks = [
        strategy_pb2.DecideRequest(
            shopper_id=shopper_id, decision_id=f"m-{shopper_id}", time_s=at_s, max_candidates=3, without_reasons=True
        )
        for shopper_id in ids[:8]
    ]
    events = [
        event_pb2.Event(
            event_id=f"e-{shopper_id}", shopper_id=shopper_id, time_s=at_s, kind=event_pb2.EVENT_KIND_ORDER,
            item_id="item-5", paid_micros=2_000_000, order_id="o-1", quantity=2.0,
        )
        for shopper_id in ids[:8]
    ]  # fmt: skip
    keys = "".join(ids[:5]).encode()
    ends = np.cumsum([len(name) for name in ids[:5]]).tolist()
    batches = [
        strategy_pb2.DecideBatchRequest(shopper_ids=ids[:5], batch_id="m", time_s=at_s),
        strategy_pb2.DecideBatchRequest(shopper_keys=keys, shopper_key_ends=ends, times_s=[at_s] * 5),
    ]
    exposure = feedback_pb2.Exposure(
        event_id="x", shopper_id=ids[0], time_s=at_s, channel=event_pb2.CHANNEL_ADS, campaign_id="2", propensity=0.5
    )
    records = [feedback_pb2.RecordRequest(events=[event], exposures=[exposure]) for event in events]
    streamed = [strategy_pb2.DecideStreamRequest(call_id=7, request=ask, within_ms=5_000) for ask in asks]
    strategy = "/stratagem.v1.StrategyService/"
    whole = {
        f"{strategy}Decide": asks,
        f"{strategy}DecideStream": streamed,
        f"{strategy}DecideBatch": batches,
        "/stratagem.v1.FeedbackService/Record": records,
        **_others(ids, at_s),
    }
    return {method: [message.SerializeToString() for message in messages] for method, messages in whole.items()}


def _others(ids: Sequence[str], at_s: int) -> dict[str, list[object]]:
    """Requests of the remaining services, as far as a shopper and a moment make one."""
    found: dict[str, list[object]] = {}
    for file in (profile_pb2, recommendation_pb2, risk_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                request = method.input_type._concrete_class()
                for name, value in (("shopper_id", ids[0]), ("time_s", at_s)):
                    if name in method.input_type.fields_by_name:
                        setattr(request, name, value)
                found[f"/{service.full_name}/{method.name}"] = [request]
    return found


def mutated_messages(stage: Stage, scale: float) -> Figures:
    """A million messages, each a valid one with bytes changed, cut, added or mixed with another's."""
    rng, n_messages = np.random.default_rng(5), max(500, int(FULL_MESSAGES * scale))
    valid = samples(stage)
    methods = list(valid)
    # Half of all messages are single decisions, which is what the gateway is for.
    shares = np.array([8.0, 4.0, 2.0, 2.0, *[1.0] * (len(methods) - 4)])
    sent: Counter[str] = Counter()
    late, own_mib = 0, [0.0]
    for first in range(0, n_messages, CHUNK):
        method = methods[int(rng.choice(len(methods), p=shares / shares.sum()))]
        bodies = [framed(mutated(valid[method], rng)) for _ in range(min(CHUNK, n_messages - first))]
        statuses, n_late = _asked(stage.gateway, method, bodies)
        sent.update(statuses)
        late += n_late
        if first <= n_messages // 5:
            own_mib[0] = sampled(stage.gateway.pid, 0.0).own_mib
    return _settled(stage.gateway, sent, n_messages, own_mib[0]) | {"late": float(late)}


def _asked(gateway: Observed, method: str, bodies: Sequence[bytes]) -> tuple[Counter[str], int]:
    """Send bodies to one method, some at a time; how they ended, and how many answers came too late."""
    statuses, late, sent_s = Counter[str](), [0], dict[int, float]()

    def ended(call: int, status: int, answer: bytes) -> None:
        statuses[NAMES.get(status, str(status))] += 1
        late[0] += time.monotonic() - sent_s.pop(call) > PATIENT_S

    connection = Connection(connected(Target(gateway.address)), fields_of(gateway.address, method, PATIENT_S), ended)
    waiting = iter(enumerate(bodies))
    deadline_s = time.monotonic() + 2 * PATIENT_S + len(bodies) * 0.05
    more = True
    while (more or connection.n_open) and connection.is_open and time.monotonic() < deadline_s:
        while more and connection.n_open < IN_FLIGHT:
            place, body = next(waiting, (-1, b""))
            more = place >= 0
            if more:
                sent_s[place] = time.monotonic()
                connection.ask(place, body)
        connection.flush()
        select.select([connection.wire], [connection.wire] if connection.wants_to_send else [], [], 0.1)
        connection.read()
    statuses["NEVER_ENDED"] += len(sent_s)
    connection.close()
    return statuses, late[0]


def _settled(gateway: Observed, statuses: Counter[str], n_sent: int, own_mib: float) -> Figures:
    """What is left of it all."""
    is_settled = within(SETTLES_WITHIN_S, lambda: gateway.look().n_open == 0)
    return {
        "calls": float(n_sent),
        "failed": float(sum(n for name, n in statuses.items() if name not in NAMED)),
        "open_in_the_end": 0.0 if is_settled else float(gateway.look().n_open),
        "growth_mib": sampled(gateway.pid, 0.0).own_mib - own_mib,
        **{f"n_{name.lower()}": float(n) for name, n in sorted(statuses.items()) if n},
    }


def mutated_frames(stage: Stage, scale: float) -> Figures:
    """Connections whose bytes are no longer HTTP/2, or not gRPC's."""
    rng, n_connections = np.random.default_rng(6), max(100, int(FULL_CONNECTIONS * scale))
    body = framed(samples(stage)["/stratagem.v1.StrategyService/Decide"][0])
    own_mib, n_unclosed = 0.0, 0
    for place, data in enumerate(raw_requests(stage.gateway.address, body, n_connections, rng)):
        n_unclosed += not _closed_after(stage.gateway.address, data)
        if place <= n_connections // 5:
            own_mib = own_mib if place % 50 else sampled(stage.gateway.pid, 0.0).own_mib
    return _settled(stage.gateway, Counter(), n_connections, own_mib) | {"unclosed": float(n_unclosed)}


def _closed_after(address: str, data: bytes) -> bool:
    """Send bytes and an end on a connection of their own; whether the gateway closes it."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), CLOSES_WITHIN_S) as wire:
        try:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            while wire.recv(65_536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True  # by a reset
        return True
