"""Held-out rows of every served model's inputs: what export compares three runtimes on, and keeps as self-tests.

In: a Dataset and the modules that are to be served. Out: arrays by model and tensor name, from the test window alone.
Called by training/export.py.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kernels.review_ngrams import review_ngrams
from training.configs import DECISION, ENCODER, HEADS, SIGNATURES
from training.dataset import TEST, WEEK_S, Dataset, Rows
from training.deceptions import texts_of
from training.models.session import N_SESSION
from training.staging import Arrays
from training.transactions import transactions_of

N_HELD_OUT = 512


def held_out_rows(dataset: Dataset) -> Rows:
    """Return evenly spread shopper-weeks of the test window, which no fit and no calibration has seen."""
    rows, _ = dataset.weekly()
    test = np.flatnonzero(dataset.splits.part(rows.at_s, WEEK_S) == TEST)
    return rows.take(_spread(test))


def example_rows(dataset: Dataset, served: Mapping[str, nn.Module]) -> dict[str, Arrays]:
    """Return the inputs of each served model.

    served   by model, the encoder among them: the heads read what it answers
    returns  model -> tensor -> (n, width), n at most N_HELD_OUT
    """
    rows = held_out_rows(dataset)
    events: Arrays = {f"event_{name}": column for name, column in vars(rows.events()).items()}
    with torch.no_grad():
        vector = served[ENCODER](*(torch.from_numpy(events[tensor.name]) for tensor in SIGNATURES[ENCODER].inputs))[0]
    shopper: Arrays = {"features": rows.features, "shopper_vector": vector.numpy()}
    examples = {ENCODER: events}
    for model in (*HEADS, DECISION):
        examples[model] = {tensor.name: shopper[tensor.name] for tensor in SIGNATURES[model].inputs}
    if "session" in served:
        examples["session"] = {"session_items": np.ascontiguousarray(rows.events().item[:, -N_SESSION:])}
    if "risk_transaction" in served:
        cases = transactions_of(dataset)
        examples["risk_transaction"] = {"risk_features": cases.features[_spread(cases.of(TEST))]}
    if "risk_review" in served:
        bucket, weight = review_ngrams(texts_of(dataset.shop)[-N_HELD_OUT:])
        examples["risk_review"] = {"ngram_bucket": bucket, "ngram_weight": weight}
    return examples


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.linspace(0, rows.size - 1, min(N_HELD_OUT, rows.size)).astype(np.int64)]
