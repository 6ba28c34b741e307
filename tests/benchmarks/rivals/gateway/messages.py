"""Messages to ask rivals with and to echo, framed as gRPC puts them on the wire.

In: asks. Out: bodies for h2load, and a typical answer where the caller brings no real one.
"""

import struct
from collections.abc import Iterable

from stratagem.v1 import event_pb2, strategy_pb2
from tritonclient.grpc import service_pb2

DECIDE = "/stratagem.v1.StrategyService/Decide"
DECIDE_STREAM = "/stratagem.v1.StrategyService/DecideStream"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
TIME_S = 1_514_779_280
REASONS = (
    (
        "worth",
        "Worth $0.55 of extra margin for an expected $0.0300; at the budget's price of 4.51 that beats the runner-up, "
        "a panel of 3 recommendations, by $0.0821.",
    ),
    (
        "affinity",
        "Buys Frozen Pizza within 7 days with probability 52 %; an ad multiplies such purchases by 1.61 "
        "(95 % interval 1.56 to 1.67).",
    ),
    ("no_offer", "No offer: of 58, 58 worth less than nothing at the budget's price."),
)


def framed(messages: Iterable[bytes]) -> bytes:
    """Each message behind its five-byte prefix: not compressed, and its length."""
    return b"".join(struct.pack(">BI", 0, len(message)) + message for message in messages)


def decide_request(shopper_id: str = "1274") -> strategy_pb2.DecideRequest:
    """One ask."""
    return strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=TIME_S)


def decide_body(shopper_id: str = "1274") -> bytes:
    """One ask as the body of a unary call."""
    return framed([decide_request(shopper_id).SerializeToString()])


def stream_body(n_asks: int) -> bytes:
    """A whole stream of asks for different shoppers, as one body."""
    asks = (
        strategy_pb2.DecideStreamRequest(call_id=call, request=decide_request(str(1000 + call)))
        for call in range(1, n_asks + 1)
    )
    return framed(ask.SerializeToString() for ask in asks)


def infer_request(model: str, shopper_id: str = "1274") -> bytes:
    """A KServe v2 request that asks `model` about one shopper: KServe's strings carry their length in four bytes."""
    key = shopper_id.encode()
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="shopper_key", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<I", len(key)) + key)
    return request.SerializeToString()


def typical_answer() -> strategy_pb2.DecideResponse:
    """An answer with the parts and the size of most: the gateway's own had 464 to 772 bytes for the built shop."""
    return strategy_pb2.DecideResponse(
        decision=strategy_pb2.Decision(
            decision_id="f023989dbd534a6b800a70dcc7ec153a",
            shopper_id="1274",
            action=strategy_pb2.Action(
                kind=strategy_pb2.ACTION_KIND_AD, channel=event_pb2.CHANNEL_ADS, category="Frozen Pizza"
            ),
            value_micros=552_222,
            cost_micros=30_000,
            shadow_price=4.50596,
            score_micros=417_043,
            propensity=0.98,
            runner_up=_typical_runner_up(),
            reasons=[strategy_pb2.Reason(code=code, words=words) for code, words in REASONS],
            rung=strategy_pb2.RUNG_FULL,
            state_age_s=118_976,
            release="91ef094cb24f",
            plan_id="d4991767466c",
            decided_at_s=TIME_S,
            currency_code="USD",
        )
    )


def _typical_runner_up() -> strategy_pb2.Candidate:
    return strategy_pb2.Candidate(
        action=strategy_pb2.Action(
            kind=strategy_pb2.ACTION_KIND_RECOMMENDATIONS,
            channel=event_pb2.CHANNEL_CONTENT,
            item_ids=["951590", "1070820", "8090537"],
            title="White Bread, 20 oz, White Milk, 1 gal, Soft Drinks, 12 to 18 Cans, 12 oz",
        ),
        value_micros=357_475,
        cost_micros=5_000,
        score_micros=334_945,
        propensity=0.0003,
    )
