"""RiskService: served features are training's bit for bit, answers are the model's, and each refusal has its status."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import polars as pl
import pytest
import torch
from stratagem.v1 import risk_pb2, risk_pb2_grpc

from kernels.review_ngrams import N_BUCKETS, review_ngrams
from kernels.risk_features import N_RISK_FEATURES, REASONS, RISK_FEATURES, sentence_of
from server.gateway.doors import Doors
from server.gateway.risk import KEYS, RiskServicer, features_of
from server.repository import Repository, open_repository
from server.settings import Settings
from server.triton.client import REVIEW, TRANSACTION, Models
from server.triton.environment import Environment
from server.triton.process import serving
from server.wire.server import WireServer
from training.configs import config_of
from training.models import risk_review, risk_transaction
from training.risk import KEYS as COLUMNS
from training.risk import risk_features
from training.sources.tables import EVENTS, SHOPPERS, whole
from training.staging import stage

NOW_S, PATIENT_S = 1_700_000_000, 30.0


def events_of(n_events: int, seed: int) -> pl.DataFrame:
    """Orders and views on few keys, in time order, some at the same second; one key in five is unknown."""
    rng = np.random.default_rng(seed)

    def keys(name: str) -> list[str | None]:
        return [None if key == 0 else f"{name}{key}" for key in rng.integers(0, 5, n_events)]

    frame = pl.DataFrame(
        {
            "time_s": np.sort(NOW_S - rng.integers(0, 60, n_events) * 12 * 3_600),
            "shopper_id": [f"shopper{key}" for key in rng.integers(0, 6, n_events)],
            "kind": rng.choice(["order", "view"], n_events),
            "paid_micros": rng.integers(0, 10**10, n_events),
            "device_id": keys("device"), "address_id": keys("address"), "card_id": keys("card"),
        }
    )  # fmt: skip
    return whole(EVENTS, frame).cast(dict(EVENTS.schema))


def request_of(events: pl.DataFrame, signed_up_s: int) -> risk_pb2.AssessTransactionRequest:
    """What a shop would say of its last event, having looked its keys up."""
    last = events.row(-1, named=True)
    request = risk_pb2.AssessTransactionRequest(
        time_s=last["time_s"], paid_micros=last["paid_micros"], signed_up_s=signed_up_s
    )
    for column, key in COLUMNS.items():
        if last[column] is None:
            continue
        getattr(request, key).SetInParent()
        for use in events.head(-1).filter(pl.col(column) == last[column]).iter_rows(named=True):
            paid_micros = use["paid_micros"] if use["kind"] == "order" else 0
            getattr(request, key).uses.add(time_s=use["time_s"], shopper_id=use["shopper_id"], paid_micros=paid_micros)
    return request


@pytest.mark.parametrize("seed", range(6))
def test_served_features_are_those_of_training_bit_for_bit(seed: int) -> None:
    events = events_of(120, seed).with_columns(
        kind=pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(pl.lit("order")).otherwise("kind")
    )
    signed_up_s = NOW_S - 70 * 86_400
    shoppers = pl.DataFrame({"shopper_id": [f"shopper{key}" for key in range(6)], "signed_up_s": [signed_up_s] * 6})
    trained = risk_features(events, whole(SHOPPERS, shoppers).cast(dict(SHOPPERS.schema)))[-1:]
    served = features_of(request_of(events, signed_up_s), int(events["time_s"][-1]))
    assert served.dtype == trained.dtype
    assert served.tobytes() == trained.tobytes()


def test_what_is_unset_is_unknown_and_a_new_key_is_not() -> None:
    features = features_of(risk_pb2.AssessTransactionRequest(), NOW_S)
    assert features.shape == (1, N_RISK_FEATURES)
    assert [name for name, value in zip(RISK_FEATURES, features[0], strict=True) if not np.isnan(value)] == [
        "time_of_day_s"
    ]
    new = features_of(risk_pb2.AssessTransactionRequest(device=risk_pb2.Key()), NOW_S)[0]
    assert new[RISK_FEATURES.index("n_device_shoppers")] == 0
    assert np.isnan(new[RISK_FEATURES.index("device_idle_s")])


def test_reasons_have_one_list_from_proto_to_tensor() -> None:
    names = [name.removeprefix("RISK_REASON_").lower() for name in risk_pb2.RiskReason.keys()[1:]]
    assert names == [reason.name for reason in REASONS]
    assert risk_pb2.RiskReason.values() == list(range(len(REASONS) + 1))
    assert set(KEYS) == set(COLUMNS.values())


@pytest.fixture(scope="module")
def modules() -> tuple[risk_transaction.Served, risk_review.Served]:
    """Both models with made-up weights."""
    torch.manual_seed(3)
    transaction, review = risk_transaction.RiskTransaction(), risk_review.RiskReview()
    transaction.learn(torch.rand(50, N_RISK_FEATURES) * 100, 0.1)
    with torch.no_grad():
        review.score.weight.normal_()
    review.learn(np.ones(N_BUCKETS, np.int64), 10)
    return risk_transaction.Served(transaction.eval()).eval(), risk_review.Served(review.eval()).eval()


@pytest.fixture(scope="module")
def triton(
    triton_environment: Environment,
    modules: tuple[risk_transaction.Served, risk_review.Served],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A Triton that serves both."""
    folder = tmp_path_factory.mktemp("risk")
    bucket, weight = review_ngrams(["A fine room.", "My husband loved it!!"])
    inputs = (
        {"risk_features": np.random.default_rng(0).random((3, N_RISK_FEATURES)).astype(np.float32)},
        {"ngram_bucket": bucket, "ngram_weight": weight},
    )
    for name, module, known in zip((TRANSACTION, REVIEW), modules, inputs, strict=True):
        stage(folder / name, module, module.signature, known, config_of(name, module.signature))
    with serving(folder, [TRANSACTION, REVIEW]) as address:
        yield address


def asked(repository: Repository, triton: str, method: str, *requests: object) -> list[object]:
    """Answers, or the problems, of a gateway with this one door, over a real channel."""

    models, doors = Models(triton), Doors(2, "door")
    servicer = RiskServicer(repository, models, Settings(decide_within_s=PATIENT_S))
    service = risk_pb2.DESCRIPTOR.services_by_name["RiskService"]
    server = WireServer(
        {
            f"/{service.full_name}/{each.name}": doors.unary(
                getattr(servicer, each.name), each.input_type._concrete_class
            )
            for each in service.methods
        },
        (),
    )
    port = server.listen("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = getattr(risk_pb2_grpc.RiskServiceStub(channel), method)
            running = [call.future(request) for request in requests]
            return [future.exception() or future.result() for future in running]
    finally:
        server.stop(PATIENT_S)
        doors.close()
        models.close()


@pytest.fixture(scope="module")
def repository(tiny_repository: Path) -> Repository:
    """A release that says it serves both models."""
    return replace(open_repository(tiny_repository), served=(TRANSACTION, REVIEW))


def test_a_transaction_gets_the_models_probability_and_reasons(
    repository: Repository, triton: str, modules: tuple[risk_transaction.Served, risk_review.Served]
) -> None:
    request = request_of(events_of(60, 1), NOW_S - 90 * 86_400)
    told, bare = asked(repository, triton, "AssessTransaction", request, risk_pb2.AssessTransactionRequest())
    with torch.no_grad():
        prob, code, log_odds = modules[0](torch.from_numpy(features_of(request, request.time_s)))
    assert told.fraud_prob == pytest.approx(float(prob), abs=1e-6)
    assert [reason.reason for reason in told.reasons] == [place for place in code[0].tolist() if place]
    assert [reason.sentence for reason in told.reasons] == [sentence_of(reason.reason) for reason in told.reasons]
    assert [reason.log_odds for reason in told.reasons] == pytest.approx(
        log_odds[0][: len(told.reasons)].tolist(), abs=1e-5
    )
    assert told.release == repository.release
    assert 0 < bare.fraud_prob < 1
    assert {reason.reason for reason in bare.reasons} <= {risk_pb2.RISK_REASON_TIME_OF_DAY}


def test_a_review_gets_the_models_probability(
    repository: Repository, triton: str, modules: tuple[risk_transaction.Served, risk_review.Served]
) -> None:
    (told,) = asked(
        repository, triton, "AssessReview", risk_pb2.AssessReviewRequest(title="Lovely", text="We\nstayed.")
    )
    bucket, weight = review_ngrams(["Lovely We stayed."])
    with torch.no_grad():
        (prob,) = modules[1](torch.from_numpy(bucket), torch.from_numpy(weight))
    assert told.deceptive_prob == pytest.approx(float(prob), abs=1e-6)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"paid_micros": -1}, "paid_micros must be in [0, "),
        ({"signed_up_s": NOW_S + 1}, f"signed_up_s must be in [1, {NOW_S}], got {NOW_S + 1}"),
        ({"device": {"uses": [{"time_s": NOW_S + 9}]}}, f"time_s must be in [1, {NOW_S}], from the use before"),
        ({"card": {"uses": [{"time_s": 9}, {"time_s": 8}]}}, "got 8 (card use 2)"),
        ({"address": {"uses": [{"time_s": 9}] * 1_001}}, "n_address_uses must be in [0, 1000], got 1001"),
        ({"shopper": {"uses": [{"time_s": 9, "shopper_id": "x" * 201}]}}, "shopper_id must be at most 200 bytes"),
    ],
    ids=["paid", "signed up later", "use in the future", "uses out of order", "too many uses", "long id"],
)
def test_a_wrong_transaction_is_refused_in_one_sentence(
    repository: Repository, request_: dict[str, object], sentence: str
) -> None:
    request = risk_pb2.AssessTransactionRequest(time_s=NOW_S, **request_)
    (problem,) = asked(repository, "127.0.0.1:9", "AssessTransaction", request)
    assert problem.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in problem.details()


def test_an_empty_review_is_refused(repository: Repository) -> None:
    (problem,) = asked(repository, "127.0.0.1:9", "AssessReview", risk_pb2.AssessReviewRequest(title="Lovely"))
    assert problem.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert problem.details() == "n_text_bytes must be in [1, 100000], got 0"


def test_a_release_without_the_models_says_which_labels_it_lacked(tiny_repository: Path) -> None:
    bare = replace(open_repository(tiny_repository), served=("encoder", "predictions"))
    (fraud,) = asked(bare, "127.0.0.1:9", "AssessTransaction", risk_pb2.AssessTransactionRequest())
    (review,) = asked(bare, "127.0.0.1:9", "AssessReview", risk_pb2.AssessReviewRequest(text="Fine."))
    for problem, column in ((fraud, "events.is_fraud"), (review, "reviews.is_deceptive")):
        assert problem.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert f"{column} did not hold enough of both verdicts" in problem.details()


def test_a_silent_triton_is_unavailable(repository: Repository) -> None:
    (problem,) = asked(repository, "127.0.0.1:9", "AssessReview", risk_pb2.AssessReviewRequest(text="Fine."))
    assert problem.code() == grpc.StatusCode.UNAVAILABLE
    assert "must answer risk_review" in problem.details()
