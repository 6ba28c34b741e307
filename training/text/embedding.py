"""Sentence embeddings of many texts through Triton: alike lengths together, nothing asked twice.

In: texts and their corpus, a fit, a way to start a Triton. Out: a vector per text of each language that has a model.
cli.py makes an Embedder and hands it to training/text/features.py. A run that was killed goes on where it stopped:
every answered batch is kept under the hashes of its texts.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray

from training.text.export import (
    MODEL_OF,
    MOST_ROWS,
    OUTPUTS,
    Ask,
    Serve,
    export_text,
    is_exported,
    languages_of,
    origin_of,
)
from training.text.fitted import FittedText
from training.text.normal import ENGLISH, LANGUAGES, readable
from training.text.sentences import minilm_tokenizer, padded
from training.text.words import Corpus, ends_a_tenth

# Rows are padded to a multiple of this many tokens: fewer shapes for the runtime, little padding.
_MULTIPLE = 16
_N_EXAMPLES = 64
_MOST_CACHE_BYTES = 1 << 36
_KEY_BYTES = 16


@dataclass(frozen=True)
class Embedded:
    """Vectors of one language's texts.

    text     (n_vectors,) int64            which text of the corpus
    vectors  (n_vectors, width) float32    of length 1, or 0
    """

    text: NDArray[np.int64]
    vectors: NDArray[np.float32]


class Embedder:
    """Embeds corpora by one repository's sentence models, which it exports first where they are missing."""

    def __init__(
        self, repository: Path, serve: Serve, cache: Path, progress: Callable[[str], None] = lambda _: None
    ) -> None:
        """Remember where everything is.

        repository  model repository; only folders of sentence models are written
        serve       starts a Triton on a repository
        cache       folder of the vectors that were answered before
        progress    told a sentence for each new model and each tenth of the texts
        """
        self._repository, self._serve, self._cache, self._progress = repository, serve, cache, progress

    def __call__(self, fitted: FittedText, corpus: Corpus, texts: Sequence[str]) -> Mapping[str, Embedded]:
        """Return vectors by language, for every text in a language that has a model.

        fitted   word vectors
        corpus   of the texts
        texts    as typed
        raises   Disagreement  if a model is new and its runtimes differ
        """
        ids = {
            language: rows for language in languages_of(fitted) if (rows := _token_ids(language, fitted, corpus, texts))
        }
        new = [language for language in ids if not is_exported(self._repository, language, fitted)]
        if new:
            examples = {language: padded(list(ids[language].values())[:_N_EXAMPLES], _MULTIPLE) for language in new}
            for model, parity in export_text(fitted, examples, self._repository, self._serve).items():
                self._progress(
                    f"{model} against torch: ONNX Runtime {parity.onnxruntime:.1e}, Triton {parity.triton:.1e} at most"
                )
        self._cache.mkdir(parents=True, exist_ok=True)
        with lmdb.open(str(self._cache), map_size=_MOST_CACHE_BYTES) as kept:
            unknown = {language: self._unknown(kept, language, fitted, rows) for language, rows in ids.items()}
            if any(unknown.values()):
                with self._serve(self._repository, [MODEL_OF[language] for language in ids]) as ask:
                    for language, asked in unknown.items():
                        self._answer(kept, ask, language, asked)
            return {language: _looked_up(kept, language, fitted, rows) for language, rows in ids.items()}

    def _unknown(
        self, kept: lmdb.Environment, language: str, fitted: FittedText, rows: Mapping[int, list[int]]
    ) -> dict[bytes, list[int]]:
        """Rows that were never answered, by key, each once."""
        with kept.begin() as reading:
            keyed = {_key(language, fitted, row): row for row in rows.values()}
            return {key: row for key, row in keyed.items() if reading.get(key) is None}

    def _answer(self, kept: lmdb.Environment, ask: Ask, language: str, unknown: Mapping[bytes, list[int]]) -> None:
        """Ask for all rows and keep each batch's answers at once."""
        n_done = 0
        for batch in _batches(sorted(unknown.items(), key=lambda pair: len(pair[1]))):
            vectors = ask(MODEL_OF[language], padded([row for _, row in batch], _MULTIPLE))
            with kept.begin(write=True) as writing:
                for (key, _), vector in zip(batch, vectors, strict=True):
                    writing.put(key, vector.tobytes())
            n_done += len(batch)
            if ends_a_tenth(n_done, len(batch), len(unknown)):
                self._progress(f"{n_done:,} of {len(unknown):,} texts embedded by {MODEL_OF[language]}")


def _token_ids(language: str, fitted: FittedText, corpus: Corpus, texts: Sequence[str]) -> dict[int, list[int]]:
    """Token ids of every text in a language, by the text's place; a text without a known token has none."""
    chosen = np.flatnonzero(corpus.language == LANGUAGES.index(language)).tolist()
    if language == ENGLISH:
        encoded = minilm_tokenizer().encode_batch([readable(texts[place]) for place in chosen])
        return {place: list(found.ids) for place, found in zip(chosen, encoded, strict=True)}
    indexes = fitted.vectors[language].indexes(corpus.words)[corpus.word]
    return {place: indexes[corpus.offsets[place] : corpus.offsets[place + 1]].tolist() for place in chosen}


def _batches(rows: Sequence[tuple[bytes, list[int]]]) -> Iterator[Sequence[tuple[bytes, list[int]]]]:
    for first in range(0, len(rows), MOST_ROWS):
        yield rows[first : first + MOST_ROWS]


def _key(language: str, fitted: FittedText, row: Sequence[int]) -> bytes:
    """Another model's answer is another vector."""
    told = hashlib.blake2b(origin_of(language, fitted).encode(), digest_size=_KEY_BYTES)
    told.update(np.array(row, np.int32).tobytes())
    return told.digest()


def _looked_up(kept: lmdb.Environment, language: str, fitted: FittedText, rows: Mapping[int, list[int]]) -> Embedded:
    vectors = np.zeros((len(rows), OUTPUTS[language].width), np.float32)
    with kept.begin() as reading:
        for place, row in enumerate(rows.values()):
            vectors[place] = np.frombuffer(reading.get(_key(language, fitted, row), b""), np.float32)
    return Embedded(np.array(list(rows), np.int64), vectors)
