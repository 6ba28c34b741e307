"""One table of tensors, and the config.pbtxt of every model written from it.

In: nothing but the table. Out: text that Triton parses as ModelConfig. Called by training/export.py; graphs and gateway
use the same names.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from kernels.features import HISTORY, N_ARMS, N_CATEGORIES, N_FEATURES, N_OFFER_GROUPS, N_TOP_ITEMS

MOST_ROWS = 256
# All models in one graph, for one call per decision.
JOINED = "predictions"


@dataclass(frozen=True)
class Tensor:
    """One named tensor of a model; the batch axis stands before `width` and is never written.

    width      -1: as long as the batch's longest row
    data_type  Triton's name of it
    meaning    unit and range, for the config's reader
    """

    name: str
    data_type: str
    width: int
    meaning: str


FEATURES_IN = Tensor("features", "TYPE_FP32", N_FEATURES, "order: kernels/features.py")
HISTORY_IN = Tensor("item_history", "TYPE_INT32", HISTORY, "vocabulary indexes, latest last, 0 pads")

INPUTS: dict[str, Tensor] = {"response": FEATURES_IN, "uplift": FEATURES_IN, "recommendation": HISTORY_IN}
OUTPUTS: dict[str, tuple[Tensor, Tensor]] = {
    "response": (
        Tensor("category_prob", "TYPE_FP32", N_CATEGORIES, "buys in the category within 7 days"),
        Tensor("redeem_prob", "TYPE_FP32", N_OFFER_GROUPS, "redeems an offer of the group within 28 days, if sent"),
    ),
    "uplift": (
        Tensor("spend_uplift", "TYPE_FP32", N_ARMS, "currency units over 28 days, of being sent the arm"),
        Tensor("spend_uplift_se", "TYPE_FP32", N_ARMS, "standard error of it"),
    ),
    "recommendation": (
        Tensor("item_index", "TYPE_INT32", N_TOP_ITEMS, "vocabulary indexes, best first; 0 is none"),
        Tensor("item_prob", "TYPE_FP32", N_TOP_ITEMS, "bought within 7 days, descending"),
    ),
}
MODELS = tuple(INPUTS)


def config_text(model: str) -> str:
    """Return the config.pbtxt of a model or of all of them joined, the same text every time.

    model  one of MODELS, or JOINED
    """
    inputs = (FEATURES_IN, HISTORY_IN) if model == JOINED else (INPUTS[model],)
    outputs = [tensor for name in MODELS for tensor in OUTPUTS[name]] if model == JOINED else OUTPUTS[model]
    origin = "# Written by `stratagem export`; edit training/export.py instead.\n"
    return origin + described(model, inputs, outputs, MOST_ROWS, "the gateway")


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
