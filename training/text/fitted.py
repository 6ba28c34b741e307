"""What text features learn from a shop: word vectors per language, from texts of the training window alone.

In: texts with the time each was first known. Out: FittedText, written beside the models. Called by
training/text/features.py; training/text/export.py turns it into a graph.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from kernels.checks import InvalidInput
from training.text.normal import CHINESE, ENGLISH
from training.text.vectors import WIDTH, WordVectors, fit_word_vectors
from training.text.words import Corpus

_FILE = "text.npz"
_ARRAYS = ("vectors", "weight", "common")


@dataclass(frozen=True)
class FittedText:
    """Everything that was fitted.

    train_until_s  texts first known at or after it had no part, seconds since 1970 UTC
    vectors        word vectors by language
    """

    train_until_s: int
    vectors: Mapping[str, WordVectors]

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits, equal only for equal fits."""
        found = hashlib.sha256()
        for language, fitted in sorted(self.vectors.items()):
            found.update(orjson.dumps([language, list(fitted.words)]))
            for name in _ARRAYS:
                found.update(np.ascontiguousarray(getattr(fitted, name)).tobytes())
        return found.hexdigest()[:12]


def fit(corpora: Mapping[str, Corpus], train_until_s: int) -> FittedText:
    """Fit on corpora that hold texts of the training window only.

    corpora        by language
    train_until_s  end of the window
    """
    vectors = {
        language: fit_word_vectors(corpus.words, corpus.word, corpus.offsets) for language, corpus in corpora.items()
    }
    return FittedText(train_until_s, vectors)


def save(fitted: FittedText, folder: Path) -> None:
    """Write a fit into a folder; an older one is replaced whole.

    folder  made where it is missing
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"train_until_s": np.array(fitted.train_until_s, np.int64)}
    for language, vectors in fitted.vectors.items():
        told = orjson.dumps(list(vectors.words))
        content[f"{language}_words"] = np.frombuffer(told, np.uint8)
        content |= {f"{language}_{name}": getattr(vectors, name) for name in _ARRAYS}
    fresh = folder / f"{_FILE}.writing"
    with fresh.open("wb") as file:
        np.savez(file, **content)  # type: ignore[arg-type]  # numpy's stub takes its own keywords only
    fresh.replace(folder / _FILE)


def load(folder: Path) -> FittedText:
    """Return what `save` wrote.

    raises  InvalidInput  if nothing was fitted there, or by another version
    """
    file = folder / _FILE
    if not file.exists():
        raise InvalidInput(f"{file} must exist; `stratagem features` writes it")
    with np.load(file) as content:
        arrays = dict(content)
    vectors = {}
    for language in (ENGLISH, CHINESE):
        if f"{language}_words" in arrays:
            words = tuple(orjson.loads(arrays[f"{language}_words"].tobytes()))
            vectors[language] = WordVectors(words, *(arrays[f"{language}_{name}"] for name in _ARRAYS))
            width = vectors[language].vectors.shape[1]
            if width != WIDTH:
                raise InvalidInput(f"word vectors in {file} must be {WIDTH} wide, got {width}; fit them again")
    return FittedText(int(arrays["train_until_s"]), vectors)
