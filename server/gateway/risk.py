"""RiskService: how risky a transaction or a review is, by what the caller tells of it.

In: the facts of a transaction with its keys' earlier events, or a review. Out: a calibrated probability and reasons.
The features are those of training, from the same kernels; nothing is stored, and nothing is looked up.
"""

import math

import numpy as np
from numpy.typing import NDArray
from stratagem.v1 import risk_pb2, risk_pb2_grpc

from kernels.review_ngrams import review_ngrams
from kernels.risk_features import DAY_S, NO_REASON, RISK_FEATURES, key_features, sentence_of
from kernels.velocity import RING, KeyedEvents, velocity
from server.gateway import fields
from server.gateway.doors import Context
from server.problems import InvalidRequest, NotInRelease
from server.repository import Repository
from server.settings import Settings
from server.triton.client import REVIEW, TRANSACTION, Models

KEYS = ("device", "address", "card", "shopper")
TITLE_BYTES, TEXT_BYTES = 20_000, 100_000
VERDICTS = {TRANSACTION: "events.is_fraud", REVIEW: "reviews.is_deceptive"}


class RiskServicer(risk_pb2_grpc.RiskServiceServicer):
    """The door onto the risk models."""

    def __init__(self, repository: Repository, models: Models, settings: Settings) -> None:
        """Judge with one release."""
        self._repository = repository
        self._models = models
        self._settings = settings

    def AssessTransaction(
        self, request: risk_pb2.AssessTransactionRequest, context: Context
    ) -> risk_pb2.AssessTransactionResponse:
        """Probability of fraud, and what speaks most for it."""
        within_s = fields.time_left_s(context, self._settings.decide_within_s)
        features = features_of(request, fields.moment_or_now(request))
        self._check_served(TRANSACTION)
        told = self._models.ask(TRANSACTION, {"risk_features": features}, within_s)
        speaking = zip(told["reason_code"][0].tolist(), told["reason_log_odds"][0].tolist(), strict=True)
        return risk_pb2.AssessTransactionResponse(
            fraud_prob=float(told["fraud_prob"][0, 0]),
            reasons=[
                risk_pb2.RiskEvidence(reason=code, sentence=sentence_of(code), log_odds=log_odds)
                for code, log_odds in speaking
                if code != NO_REASON
            ],
            release=self._repository.release,
        )

    def AssessReview(self, request: risk_pb2.AssessReviewRequest, context: Context) -> risk_pb2.AssessReviewResponse:
        """Probability that the review deceives."""
        within_s = fields.time_left_s(context, self._settings.decide_within_s)
        fields.whole("n_title_bytes", len(request.title.encode()), 0, TITLE_BYTES)
        fields.whole("n_text_bytes", len(request.text.encode()), 1, TEXT_BYTES)
        self._check_served(REVIEW)
        bucket, weight = review_ngrams([f"{request.title}\n{request.text}"])
        told = self._models.ask(REVIEW, {"ngram_bucket": bucket, "ngram_weight": weight}, within_s)
        return risk_pb2.AssessReviewResponse(
            deceptive_prob=float(told["deceptive_prob"][0, 0]), release=self._repository.release
        )

    def _check_served(self, model: str) -> None:
        if model not in self._repository.served:
            raise NotInRelease(
                f"release {self._repository.release} must hold a model {model}, got none: when it was trained, "
                f"{VERDICTS[model]} did not hold enough of both verdicts to learn from"
            )


def features_of(request: risk_pb2.AssessTransactionRequest, at_s: int) -> NDArray[np.float32]:
    """What the model reads of a transaction.

    at_s     when it is made, seconds since the epoch
    returns  (1, N_RISK_FEATURES) float32, NaN where the request leaves it unset
    raises   InvalidRequest
    """
    values = dict.fromkeys(RISK_FEATURES, math.nan)
    values["time_of_day_s"] = at_s % DAY_S
    paid_micros = 0
    if request.HasField("paid_micros"):
        values["paid_micros"] = paid_micros = fields.amount("paid_micros", request.paid_micros)
    if request.HasField("signed_up_s"):
        values["since_sign_up_s"] = at_s - fields.whole("signed_up_s", request.signed_up_s, 1, at_s)
    known = [key for key in KEYS if request.HasField(key)]
    if known:
        told = velocity(_keyed(request, known, at_s, paid_micros))
        ends = np.cumsum([len(getattr(request, key).uses) + 1 for key in known]) - 1
        for key, end in zip(known, ends.tolist(), strict=True):
            values |= {name: float(column[end]) for name, column in key_features(told, key).items()}
    return np.array([list(values.values())], np.float64).astype(np.float32)


def _keyed(request: risk_pb2.AssessTransactionRequest, known: list[str], at_s: int, paid_micros: int) -> KeyedEvents:
    """The uses of each known key, and after them the transaction itself, which is judged by what stands before it."""
    time_s, shopper, spend, offsets = [], [], [], [0]
    number: dict[str, int] = {}
    for key in known:
        uses = getattr(request, key).uses
        fields.whole(f"n_{key}_uses", len(uses), 0, RING)
        latest_s = 1
        for place, use in enumerate(uses):
            subject = f" ({key} use {place + 1})"
            latest_s = _in_order(use.time_s, latest_s, at_s, subject)
            time_s.append(latest_s)
            shopper.append(number.setdefault(fields.optional_id("shopper_id", use.shopper_id, subject), len(number)))
            spend.append(fields.amount("paid_micros", use.paid_micros, subject))
        time_s.append(at_s)
        shopper.append(-1)
        spend.append(paid_micros)
        offsets.append(len(time_s))
    columns = (np.array(column, np.int64) for column in (offsets, time_s, shopper, spend))
    return KeyedEvents(*columns)


def _in_order(time_s: int, latest_s: int, at_s: int, subject: str) -> int:
    if not latest_s <= time_s <= at_s:
        raise InvalidRequest(
            f"time_s must be in [{latest_s}, {at_s}], from the use before to the transaction, got {time_s}{subject}"
        )
    return time_s
