"""One table of tensors, and the config.pbtxt of every model written from it.

In: nothing but the table. Out: text that Triton parses as ModelConfig. Called by training/export.py; graphs and gateway
use the same names.
"""

from collections.abc import Iterable, Mapping

from training.models import (
    heads,
    lifetime,
    recommendation,
    response,
    risk_review,
    risk_transaction,
    session,
    tags,
    uplift,
)
from training.tensors import Signature, Tensor

MOST_ROWS = 256
# A request takes some 0.7 ms of Triton's and the caller's time whatever it holds: a row of heads takes 8.2 µs of both
# where 256 are asked for at once, 6.0 where 1,024 are (LOG.md).
MOST_DECISIONS = 1_024
# Run when a shopper has changed; all heads in one graph, for a profile; what a decision asks of them, in a small net.
ENCODER, JOINED, DECISION = "encoder", "predictions", "heads"
ORIGIN = "# Written by `stratagem export`; edit training/configs.py instead.\n"

HEADS: Mapping[str, Signature] = {
    "tags": tags.Served.signature,
    "response": response.Served.signature,
    "uplift": uplift.Served.signature,
    "lifetime": lifetime.Served.signature,
}
# In a release only where the shop's data were enough to learn them.
SOMETIMES: Mapping[str, Signature] = {
    "session": session.Served.signature,
    "risk_transaction": risk_transaction.Served.signature,
    "risk_review": risk_review.Served.signature,
}


def joined(signatures: Mapping[str, Signature]) -> Signature:
    """Return the signature of several models in one graph: inputs of one name are one input."""
    inputs = {tensor.name: tensor for signature in signatures.values() for tensor in signature.inputs}
    outputs = tuple(tensor for signature in signatures.values() for tensor in signature.outputs)
    return Signature(tuple(inputs.values()), outputs)


SIGNATURES: Mapping[str, Signature] = {
    ENCODER: recommendation.Served.signature,
    **HEADS,
    JOINED: joined(HEADS),
    DECISION: heads.Served.signature,
    **SOMETIMES,
}


def config_text(model: str) -> str:
    """Return the config.pbtxt of a model of the shop, the same text every time.

    model  one of SIGNATURES
    """
    return config_of(model, SIGNATURES[model], "the gateway", MOST_DECISIONS if model == DECISION else MOST_ROWS)


def described(model: str, inputs: Iterable[Tensor], outputs: Iterable[Tensor], most_rows: int, gatherer: str) -> str:
    """Return what Triton must know of a model: its tensors, its largest batch, where it runs.

    model      its name, and its folder's
    most_rows  of one batch
    gatherer   who puts batches together, so that Triton need not wait for more
    """
    return (
        f'name: "{model}"\nbackend: "onnxruntime"\nmax_batch_size: {most_rows}\n'
        + "".join(_line("input", tensor) for tensor in inputs)
        + "".join(_line("output", tensor) for tensor in outputs)
        # Mixed GPU and CPU groups do not load without a GPU; AUTO takes what there is.
        + "instance_group { kind: KIND_AUTO count: 1 }\n"
        + f"dynamic_batching {{ max_queue_delay_microseconds: 0 }}  # {gatherer} gathers batches itself\n"
    )


def _line(key: str, tensor: Tensor) -> str:
    described = f'name: "{tensor.name}" data_type: {tensor.data_type} dims: [ {tensor.width} ]'
    return f"{key} {{ {described} }}  # {tensor.meaning}\n"


def config_of(model: str, signature: Signature, gatherer: str = "the caller", most_rows: int = MOST_ROWS) -> str:
    """Return the config.pbtxt of any served module.

    model      its name, and its folder's
    gatherer   who puts batches together
    most_rows  of one batch
    """
    return ORIGIN + described(model, signature.inputs, signature.outputs, most_rows, gatherer)
