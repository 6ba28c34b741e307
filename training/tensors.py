"""What a served model is called with and what it answers: named tensors, the same from the module to Triton.

In: nothing. Out: frozen tables. Every `Served` module of training/models carries one;
configs.py and graphs.py write it.
"""

from dataclasses import dataclass

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
