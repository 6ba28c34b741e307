"""What people are shown of the models is what evaluation.json holds, lost rows included."""

import copy

from evaluation.page import Evaluation, Study, losses, model_tables


def interval(value: float, spread: float) -> dict[str, float]:
    """A figure with a symmetric interval."""
    return {"value": value, "lower": value - spread, "upper": value + spread}


STUDY: Study = {
    "rows": [
        {"name": "net", "figures": {"ndcg_10": interval(0.25, 0.01), "ece": interval(0.004, 0.0)}},
        {"name": "own frequency", "figures": {"ndcg_10": interval(0.298, 0.01)}},
    ],
    "against": [
        {"rival": "own frequency", "figure": "ndcg_10", "difference": interval(-0.048, 0.004), "is_lost": True},
    ],
    "protocol": "later weeks",
    "n": {"weeks": 5_000},
    "n_parameters": 7,
    "seconds_in_all": 1.0,
    "notes": ["nothing to show"],
}


def evaluation_of(study: Study) -> Evaluation:
    """An evaluation of one model."""
    models = {"recommendation": study}
    return {
        "shop": "s",
        "models": models,
        "deciles": {},
        "overlap": {},
        "constants": {},
        "reliability": {},
        "features": {},
    }


def test_every_model_is_a_column_and_an_interval_stands_where_there_is_one() -> None:
    [(title, table)] = model_tables(evaluation_of(STUDY))
    assert title == "recommendation: later weeks"
    assert table.titles == ("figure", "net", "own frequency")
    assert table.rows == [
        ["ndcg_10", "0.25 [0.24, 0.26]", "0.298 [0.288, 0.308]"],
        ["ece", "0.004", ""],
    ]


def test_a_study_without_rows_says_why() -> None:
    empty = copy.deepcopy(STUDY)
    empty["rows"] = []
    [(_, table)] = model_tables(evaluation_of(empty))
    assert table.rows == [("nothing to show",)]


def test_a_row_we_lose_is_a_sentence() -> None:
    assert losses(evaluation_of(STUDY)) == ["recommendation loses to own frequency in ndcg_10 by 0.048"]
