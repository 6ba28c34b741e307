"""A Normalisation as the first step of a model: its numbers are buffers, so the graph that is served carries them.

In: features as the kernels write them. Out: the same, normalised. Called by the models; export reads the numbers back.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kernels.features import columns
from training.features.normalisation import LIMIT, Moments, Normalisation

# Whatever is not 0 is 1 or more times this, down to a size that no feature has.
HUGE = 1e30


class Standard(nn.Module):
    """Normalises every column; unfitted, it only squeezes.

    names  of the columns
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, names: Sequence[str] = columns()) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("scale", torch.ones(len(self.names)))

    def learn(self, features: Tensor) -> None:
        """Take mean and spread from the training rows.

        features  (n, n_features) float32
        """
        self.take(Moments.of(features.numpy()).normalisation(self.names))

    def take(self, normalisation: Normalisation) -> None:
        """Hold a normalisation's numbers, rounded to float32."""
        self.mean.copy_(torch.tensor(normalisation.mean))
        self.scale.copy_(torch.tensor(normalisation.scale))

    def normalisation(self, fitted_until_s: int | None = None) -> Normalisation:
        """Return the numbers held, exactly."""
        mean, scale = (buffer.numpy().astype(np.float64).tolist() for buffer in (self.mean, self.scale))
        return Normalisation(self.names, tuple(mean), tuple(scale), fitted_until_s)

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features, the same shape."""
        # ONNX Runtime's Sign takes 74 µs where this product and its limits take 20 (256 rows of 251 columns).
        sign = (features * HUGE).clamp(-1.0, 1.0)
        squeezed = sign * torch.log1p(torch.abs(features))
        standard: Tensor = ((squeezed - self.mean) * self.scale).clamp(-LIMIT, LIMIT)
        return standard
