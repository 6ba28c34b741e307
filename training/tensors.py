"""What a served model is called with and what it answers: named tensors, the same from the module to Triton.

In: nothing. Out: frozen tables. Every `Served` module of training/models carries one;
configs.py and graphs.py write it.
"""

from dataclasses import dataclass

from kernels.event_history import LENGTH
from kernels.features import HISTORY, N_FEATURES


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


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in the order of a module's forward."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


FEATURES_IN = Tensor("features", "TYPE_FP32", N_FEATURES, "order: kernels/features.py")
HISTORY_IN = Tensor("item_history", "TYPE_INT32", HISTORY, "vocabulary indexes, latest last, 0 pads")
# What a shopper did last, as kernels.event_history tells it, the latest last: what the encoder reads.
EVENTS_IN = (
    Tensor("event_item", "TYPE_INT32", LENGTH, "vocabulary indexes; 0 is unknown or none"),
    Tensor("event_kind", "TYPE_INT8", LENGTH, "kinds of kernels/ledger.py; 0 pads"),
    Tensor("event_gap_s", "TYPE_INT32", LENGTH, "seconds since the event before"),
    Tensor("event_price", "TYPE_INT8", LENGTH, "half octaves of a unit's price; 0 is unknown"),
)
VECTOR_WIDTH = 64
# The encoder's answer, kept with the shopper's state until the next event, is an input of every head.
VECTOR = Tensor("shopper_vector", "TYPE_FP32", VECTOR_WIDTH, "what the encoder makes of the last events")
