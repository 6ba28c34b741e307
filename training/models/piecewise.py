"""Numbers as how far each has come through its own bins, so that a linear layer can bend where the data does.

In: columns as the kernels write them. Out: N_BINS shares in [0, 1] for each. Called by training/models/tags.py; the
edges are buffers, so the graph that is served carries them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]


class Piecewise(nn.Module):
    """Piecewise-linear encoding of each column between quantiles of the training rows.

    n_columns  of the input
    n_bins     for each column
    source     Gorishniy et al. 2022 (arXiv 2203.05556), equation 1
    """

    low: Tensor
    worth: Tensor

    def __init__(self, n_columns: int, n_bins: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(n_columns, n_bins))
        self.register_buffer("worth", torch.zeros(n_columns, n_bins))

    def learn(self, values: Tensor) -> None:
        """Take the edges from the training rows.

        values  (n, n_columns) float32
        """
        n_bins = self.low.shape[1]
        for place, column in enumerate(values.numpy().T.astype(np.float64)):
            edges = _edges(column, n_bins)
            width = np.diff(edges)
            self.low[place] = torch.from_numpy(edges[:-1])
            # A bin without width says nothing, whatever comes.
            self.worth[place] = torch.from_numpy(np.where(width > 0.0, 1.0 / np.where(width > 0.0, width, 1.0), 0.0))

    def forward(self, values: Tensor) -> Tensor:
        """How far each value has come through each bin of its column.

        values   (..., n_columns) float32
        returns  (..., n_columns * n_bins) float32  0 before the bin, 1 after it
        """
        shares = ((values.unsqueeze(-1) - self.low) * self.worth).clamp(0.0, 1.0)
        return shares.flatten(-2)


def _edges(
    column: np.ndarray[tuple[int], np.dtype[np.float64]], n_bins: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Quantiles of what is not 0: most features are 0 for most shoppers, and one edge says that."""
    kept = column[column != 0.0]
    if not kept.size:
        return np.zeros(n_bins + 1)
    edges: Floats = np.quantile(kept, np.linspace(0.0, 1.0, n_bins + 1))
    if kept.size < column.size:
        edges[0] = min(edges[0], 0.0)
    return edges
