"""What the encoder made of a shopper's last events, kept until the next event: the store and every door read it.

In: the encoder's tensors, row by row. Out: one structured array, a row per shopper. Pure; called by
server/triton/client.py, server/state/embedded.py and server/decide.py.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.features import N_TOP_ITEMS

VECTOR_WIDTH = 64
# Kinds of event that can come next: view, cart, order, refund.
N_NEXT_KINDS = 4
ENCODER_CHARS = 12

# Tensor of the encoder -> its type and its width.
TENSORS: dict[str, tuple[type[np.generic], int]] = {
    "shopper_vector": (np.float32, VECTOR_WIDTH),
    "next_kind_prob": (np.float32, N_NEXT_KINDS),
    "item_index": (np.int32, N_TOP_ITEMS),
    "item_prob": (np.float32, N_TOP_ITEMS),
    "item_reason": (np.int32, N_TOP_ITEMS),
    "item_because": (np.int32, N_TOP_ITEMS),
}
# n_events says after how many events it was made, `encoder` by which one: both must match, or it is stale.
ENCODING = np.dtype(
    [("n_events", "<i8"), ("encoder", f"S{ENCODER_CHARS}")]
    + [(name, np.dtype(dtype), (width,)) for name, (dtype, width) in TENSORS.items()]
)

Encodings = NDArray[np.void]


def no_encodings(n_rows: int) -> Encodings:
    """Return rows that were never encoded: stale for every encoder."""
    encodings = np.zeros(n_rows, ENCODING)
    encodings["n_events"] = -1
    return encodings


def is_stale(encodings: Encodings, n_events: NDArray[np.int64], encoder: str) -> NDArray[np.bool_]:
    """Say which rows must be made anew.

    n_events  (n,) int64  events of each shopper so far
    encoder   name of the encoder that answers now
    returns   (n,) bool
    """
    stale: NDArray[np.bool_] = (encodings["n_events"] != n_events) | (encodings["encoder"] != encoder.encode())
    return stale
