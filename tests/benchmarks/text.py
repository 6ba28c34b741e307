"""What text features cost, and what each kind of them knows of a review's verdict, beside guessing the majority.

Run by `python -m tests.benchmarks text`; needs the real reviews, the English weights and Triton's environment. Quick
takes a sample of each language; `--full` takes every review. Word vectors and probes are fitted on the first three
quarters of the shuffled reviews; the last quarter is judged. Embedding's time includes starting Triton.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from server.triton.process import serving
from server.triton.text import TextModels
from tests.benchmarks.record import Measured
from tests.training.text.real import chinese_reviews, english_reviews
from training.text.embedding import Embedder
from training.text.export import MODEL_OF, Ask
from training.text.features import text_features
from training.text.ngrams import N_BUCKETS

N_QUICK = 6_000
TRAIN_SHARE = 0.75
NO_ITEMS = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String, "description": pl.String})


def measure(quick: bool, raw: Path | None = None) -> Measured:
    """Texts per second, and the share of held-out verdicts that a logistic probe on each representation gets right."""
    figures, rivals, n_texts = {}, {}, 0
    for language, table in (("en", english_reviews()), ("zh", chinese_reviews())):
        reviews = table.sample(min(N_QUICK, table.height) if quick else table.height, shuffle=True, seed=0)
        reviews = reviews.with_columns(
            review_id=pl.int_range(pl.len()).cast(pl.String), time_s=pl.int_range(pl.len()), title=pl.lit("")
        )
        known, found = _probed(language, reviews)
        figures |= {f"{language}: {name}": figure for name, figure in known.items()}
        rivals |= {f"{language}: {name}": figure for name, figure in found.items()}
        n_texts += reviews.height
    return Measured(figures, rivals, n_texts)


def _probed(language: str, reviews: pl.DataFrame) -> tuple[dict[str, float], dict[str, float]]:
    """Figures and the rival of one language."""
    train_until_s = int(TRAIN_SHARE * reviews.height)
    plain_s, _ = _timed(lambda: text_features(NO_ITEMS, reviews, train_until_s))
    with tempfile.TemporaryDirectory() as folder:
        embed = Embedder(Path(folder) / "models", _triton, Path(folder) / "cache")
        # One text exports the model, so that the second run is embedding alone.
        text_features(NO_ITEMS, reviews[:1] if language == "en" else reviews, train_until_s, embed)
        fresh = Embedder(Path(folder) / "models", _triton, Path(folder) / "another_cache")
        all_s, features = _timed(lambda: text_features(NO_ITEMS, reviews, train_until_s, fresh))
    rows = features.reviews.with_columns(is_positive=reviews["is_positive"])
    model = MODEL_OF[language]
    judged = rows.filter(pl.col(model).is_not_null())
    is_train = (judged["time_s"] < train_until_s).to_numpy()
    verdict = judged["is_positive"].to_numpy()
    representations = {
        "n-grams": _sparse(judged),
        "pooled word vectors": judged["word_vector"].to_numpy(),
        "sentence embedding": judged[model].to_numpy(),
    }
    figures = {}
    for name, values in representations.items():
        figures[f"{name}, right"], figures[f"{name}, area"] = _verdicts(values, verdict, is_train)
    figures["texts/s without embeddings"] = reviews.height / plain_s
    figures["texts/s embedded through Triton"] = judged.height / max(all_s - plain_s, 1e-9)
    usual = verdict[is_train].mean() >= 0.5
    return figures, {"majority, right": float(np.mean(verdict[~is_train] == usual)), "majority, area": 0.5}


@contextmanager
def _triton(repository: Path, models: Sequence[str]) -> Iterator[Ask]:
    with serving(repository, models) as address:
        asking = TextModels(address)
        try:
            yield asking.ask
        finally:
            asking.close()


def _timed(work):  # type: ignore[no-untyped-def]
    began = time.perf_counter()
    done = work()
    return time.perf_counter() - began, done


def _sparse(rows: pl.DataFrame) -> scipy.sparse.csr_matrix:
    """Both kinds of n-grams side by side, damped, each text of length 1."""
    parts = []
    for kind in ("word", "character"):
        buckets, counts = rows[f"{kind}_ngram_bucket"], rows[f"{kind}_ngram_count"]
        offsets = np.concatenate([[0], np.cumsum(buckets.list.len().to_numpy())])
        damped = 1.0 + np.log(counts.explode(empty_as_null=False).to_numpy())
        values = (damped, buckets.explode(empty_as_null=False).to_numpy(), offsets)
        parts.append(scipy.sparse.csr_matrix(values, (rows.height, N_BUCKETS)))
    return normalize(scipy.sparse.hstack(parts, format="csr"))


def _verdicts(
    values: NDArray[np.float32] | scipy.sparse.csr_matrix, verdict: NDArray[np.bool_], is_train: NDArray[np.bool_]
) -> tuple[float, float]:
    """Share of right verdicts, and area under the ROC curve, on the judged quarter."""
    # C = 10 suits rows of length 1; nothing was tuned on the judged quarter.
    probe = LogisticRegression(C=10.0, max_iter=1_000).fit(values[is_train], verdict[is_train])
    positive_prob = probe.predict_proba(values[~is_train])[:, 1]
    judged = verdict[~is_train]
    return float(np.mean((positive_prob > 0.5) == judged)), float(roc_auc_score(judged, positive_prob))
