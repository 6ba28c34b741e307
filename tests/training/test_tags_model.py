"""What comes next is labelled as it happened, learned, calibrated and served; a net that loses is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_score

from kernels.checks import InvalidInput
from kernels.features import N_CATEGORIES, N_FEATURES, columns
from kernels.future_tags import FUTURE_TAGS, MONTH_S, N_FUTURE_TAGS, WEEK_S
from kernels.ledger import CART, EXPOSURE, ORDER, REDEMPTION, REFUND, VIEW
from training import multilabel, outlook
from training.configs import config_of
from training.dataset import DAY_S, NEITHER, TEST, TRAIN, VALID, Dataset, dataset_of
from training.loop import Recipe
from training.models.piecewise import Piecewise
from training.models.tags import N_LABELS, VECTOR_WIDTH, Logistic, Served, Tags, tags_loss
from training.multilabel import Cases, Said, Truth
from training.outlook import Outlook, OutlookTask, cases_of, fit_tags, outlook_of, recent_share, said_of
from training.sources.tables import InvalidTable, Shop
from training.staging import onnxruntime_answers, stage
from training.tag_labels import Outcomes, outcomes_of, session_outcomes, session_rows

NAMES = [tag.name for tag in FUTURE_TAGS]
QUICK = Recipe(n_epochs=4, batch=256, learning_rate=3e-3)


def silent(step: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def browsing(shop: Shop) -> Dataset:
    """A shop with views and carts: who fills a cart orders within the session, who only views does not."""
    draw = np.random.default_rng(3)
    begins_s, items = int(shop.events["time_s"].min()), shop.items["item_id"]  # type: ignore[arg-type]
    rows = []
    for shopper in range(40):
        for visit in range(60):
            time_s = begins_s + int(draw.integers(0, 20 * WEEK_S)) // 7_200 * 7_200
            kinds = ["view", *(["view"] * int(draw.integers(1, 4)))]
            if draw.random() < 0.4:
                kinds += ["cart", "view", *(["order"] if draw.random() < 0.8 else [])]
            for place, kind in enumerate(kinds):
                order = f"{shopper}-{visit}" if kind == "order" else None
                rows.append((f"s{shopper}", time_s + 60 * place, kind, items[int(draw.integers(items.len()))], order))
    frame = pl.DataFrame(rows, ["shopper_id", "time_s", "kind", "item_id", "order_id"], orient="row")
    events = pl.concat(
        [shop.events.clear(), frame.with_columns(quantity=1.0, paid_micros=2_000_000)], how="diagonal_relaxed"
    )
    events = events.with_columns(pl.col("discount_micros", "coupon_micros").fill_null(0)).cast(dict(shop.events.schema))
    nothing = {name: getattr(shop, name).clear() for name in ("exposures", "offers", "outcomes")}
    return dataset_of(replace(shop, events=events, **nothing))


@pytest.fixture(scope="module")
def little(dataset: Dataset) -> Outlook:
    return outlook_of(dataset, *dataset.weekly(), outlook.without_vectors, silent)


def unseen(shop: Shop) -> Dataset:
    """The little shop as a till sees it: orders alone."""
    return dataset_of(replace(shop, events=shop.events.filter(pl.col("kind").is_in(["view", "cart"]).not_())))


def planted(n: int = 1_800) -> Outlook:
    """Rows whose first category and first tag follow two features that say nothing alone, only together."""
    draw = np.random.default_rng(0)
    features = np.zeros((n, N_FEATURES), np.float32)
    features[:, :2] = draw.normal(size=(n, 2))
    together = (features[:, 0] > 0) ^ (features[:, 1] > 0)
    labels = np.zeros((n, N_LABELS), np.bool_)
    labels[:, 0] = labels[:, N_CATEGORIES + 1] = together ^ (draw.random(n) < 0.1)
    observed = np.full((n, N_LABELS), NEITHER, np.int8)
    observed[:, [0, N_CATEGORIES + 1]] = np.repeat([TRAIN, VALID, TEST], n // 3)[:, None]
    at_s = np.repeat(np.arange(3) * WEEK_S, n // 3)
    vectors = np.zeros((n, VECTOR_WIDTH), np.float32)
    return Outlook(np.arange(n) % (n // 3), at_s, features, vectors, labels, observed, n, np.arange(3) * WEEK_S)


def test_every_outcome_is_what_happened_after_the_query(dataset: Dataset) -> None:
    rows, _ = dataset.weekly()
    rows = rows.take(np.arange(0, len(rows), 17))
    told = outcomes_of(dataset, rows)
    much = _much(dataset)
    for place in range(0, len(rows), 3):
        defined = _defined(dataset, int(rows.shopper[place]), int(rows.at_s[place]), much)
        for name, (label, is_seen) in defined.items():
            tag = NAMES.index(name)
            window = dataset.splits.part(rows.at_s[place : place + 1], FUTURE_TAGS[tag].horizon_s)[0]
            assert told.observed[place, tag] == (window if is_seen else NEITHER), name
            assert told.labels[place, tag] == label, name
    assert set(defined) == set(NAMES) - {"orders_session"}


def _much(dataset: Dataset) -> float:
    rows, _ = dataset.weekly()
    rows = rows.take(np.arange(0, len(rows), 17))
    train = np.flatnonzero(dataset.splits.part(rows.at_s, MONTH_S) == TRAIN)
    spent = [_spent(dataset, int(rows.shopper[row]), int(rows.at_s[row])) for row in train]
    return float(np.quantile(spent, 0.8))


def _spent(dataset: Dataset, shopper: int, at_s: int) -> float:
    lines = _events(dataset, shopper, at_s, MONTH_S)
    signs = {ORDER: 1, REFUND: -1}
    return sum(signs.get(line["kind"], 0) * line["paid_micros"] for line in lines) / 1e6


def _events(dataset: Dataset, shopper: int, at_s: int, horizon_s: int) -> list[dict[str, int]]:
    ledger = dataset.ledger
    own = range(int(ledger.offsets[shopper]), int(ledger.offsets[shopper + 1]))
    names = ("time_s", "kind", "item", "category", "order", "paid_micros", "discount_micros", "coupon_micros")
    events = [{name: int(getattr(ledger, name)[place]) for name in names} for place in own]
    return [event for event in events if at_s <= event["time_s"] < at_s + horizon_s]


def _defined(dataset: Dataset, shopper: int, at_s: int, much: float) -> dict[str, tuple[bool, bool]]:
    """Every tag in plain Python: the label, and whether it could be seen."""
    month, week = _events(dataset, shopper, at_s, MONTH_S), _events(dataset, shopper, at_s, WEEK_S)
    past = _events(dataset, shopper, 0, at_s)
    lines, lines_7d = ([event for event in part if event["kind"] == ORDER] for part in (month, week))
    bought = [event for event in past if event["kind"] == ORDER]
    first_s = {event["order"]: event["time_s"] for event in reversed(lines)}
    weekend = sum((time_s // DAY_S + 3) % 7 >= 5 for time_s in first_s.values())
    evening = sum(time_s % DAY_S >= 18 * 3_600 for time_s in first_s.values())
    reduced = sum(event["discount_micros"] + event["coupon_micros"] > 0 for event in lines)
    known = {event["category"] for event in bought}
    days: dict[int, int] = {}
    for event in [*bought, *lines_7d]:
        days.setdefault(event["item"], event["time_s"] // DAY_S)
    kinds = {event["kind"] for event in week}
    reached = any(event["kind"] == EXPOSURE for event in _events(dataset, shopper, at_s - MONTH_S, MONTH_S + WEEK_S))
    return {
        "orders_7d": (bool(lines_7d), True),
        "churns_28d": (not lines, True),
        "spends_more_28d": (_spent(dataset, shopper, at_s) > _spent(dataset, shopper, at_s - MONTH_S), True),
        "spends_much_28d": (_spent(dataset, shopper, at_s) >= much > 0, True),
        "orders_often_28d": (len({event["time_s"] // DAY_S for event in lines}) >= 4, True),
        "uses_coupon_28d": (any(event["coupon_micros"] > 0 for event in lines), True),
        "buys_reduced_28d": (2 * reduced > len(lines), bool(lines)),
        "tries_category_28d": (any(event["category"] not in known for event in lines if event["category"] >= 0), True),
        "rebuys_item_7d": (
            any(event["item"] > 0 and event["time_s"] // DAY_S > days[event["item"]] for event in lines_7d), True
        ),
        "orders_on_weekends_28d": (2 * weekend >= len(first_s), bool(lines)),
        "orders_in_evenings_28d": (2 * evening >= len(first_s), bool(lines)),
        "answers_28d": (any(event["kind"] == REDEMPTION for event in month), reached),
        "refunds_28d": (any(event["kind"] == REFUND for event in month), True),
        "only_looks_7d": (bool(kinds & {VIEW, CART}) and ORDER not in kinds, True),
        "leaves_cart_7d": (CART in kinds and ORDER not in kinds, True),
    }  # fmt: skip


def test_an_order_in_the_session_counts_until_thirty_minutes_of_silence(browsing: Dataset) -> None:
    rows = session_rows(browsing, 10_000)
    told, ledger = session_outcomes(browsing, rows), browsing.ledger
    assert 1_000 < len(rows) <= 40 * 60
    for place in range(0, len(rows), 11):
        last_s, label = int(rows.at_s[place]) - 1, False
        for at in range(int(ledger.offsets[rows.shopper[place]]), int(ledger.offsets[rows.shopper[place] + 1])):
            time_s = int(ledger.time_s[at])
            if last_s < time_s <= last_s + 1_800:
                last_s, label = time_s, label or ledger.kind[at] == ORDER
        assert told.labels[place, NAMES.index("orders_session")] == label
    assert (told.observed[:, NAMES.index("churns_28d")] == NEITHER).all()


def test_intent_in_a_session_is_learned_from_views_and_carts(browsing: Dataset) -> None:
    found = outlook_of(browsing, *browsing.weekly(), outlook.without_vectors, silent)
    torch.manual_seed(0)
    model, cases, label = Tags(1), cases_of(found), N_CATEGORIES + NAMES.index("orders_session")
    fit_tags(OutlookTask(found), model, QUICK, silent, None)
    seen, said = cases.test.observed[:, label], said_of(model, found, cases).test[:, label]
    happened = cases.test.labels[seen, label]
    # Of filled carts eight in ten are ordered, of mere views about one in four: the features tell which is which.
    assert average_precision_score(happened, said[seen]) > 1.5 * happened.mean()
    assert abs(said[seen].mean() - happened.mean()) < 0.1


def test_a_shop_without_views_has_no_sessions_and_says_so(shop: Shop) -> None:
    told: list[str] = []
    dataset = unseen(shop)
    found = outlook_of(dataset, *dataset.weekly(), outlook.without_vectors, told.append)
    assert found.n_weekly == found.shopper.size
    assert not found.is_used[N_CATEGORIES + NAMES.index("orders_session")]
    assert any("orders_session" in sentence for sentence in told)


def test_a_label_counts_only_where_a_window_holds_its_whole_horizon(dataset: Dataset, little: Outlook) -> None:
    horizons_s = [WEEK_S] * N_CATEGORIES + [tag.horizon_s for tag in FUTURE_TAGS]
    ends = {TRAIN: dataset.splits.train_until_s, VALID: dataset.splits.valid_until_s, TEST: dataset.splits.end_s}
    for part, end_s in ends.items():
        for label, horizon_s in enumerate(horizons_s):
            assert (little.at_s[little.observed[:, label] == part] + horizon_s <= end_s).all()


def test_the_recent_share_knows_no_label_before_it_is_over(little: Outlook) -> None:
    week = np.searchsorted(little.grid, little.at_s)
    now = int(week.max()) - 2
    turned = little.labels.copy()
    turned[week >= now] ^= True
    month = [N_CATEGORIES + place for place, tag in enumerate(FUTURE_TAGS) if tag.horizon_s == MONTH_S]
    for label in month:
        turned[week >= now - 3, label] ^= week[week >= now - 3] < now
    before, after = recent_share(little), recent_share(replace(little, labels=turned))
    rate = (little.labels & (little.observed == TRAIN)).sum(axis=0)
    same = (turned & (little.observed == TRAIN)).sum(axis=0) == rate
    assert same.sum() > N_CATEGORIES // 2
    np.testing.assert_array_equal(before[week == now][:, same], after[week == now][:, same])


def test_the_loss_has_both_terms_and_skips_what_was_not_observed() -> None:
    logits = torch.tensor([[[2.0, -1.0, 5.0]], [[0.0, 1.0, 5.0]]])
    labels, observed = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    chance = 1 / (1 + np.exp(-logits.numpy()))
    each = -np.log(chance[:, 0, 0]) - np.log(1 - chance[:, 0, 1])
    assert tags_loss(logits, labels, observed).item() == pytest.approx(each.sum() / 4, rel=1e-6)  # float32
    assert tags_loss(logits, labels, torch.zeros(1, 3)).item() == 0.0


def test_a_bin_says_how_far_a_value_has_come_through_it() -> None:
    bins = Piecewise(2, 2)
    bins.learn(torch.tensor([[0.0, 5.0], [1.0, 5.0], [3.0, 5.0], [5.0, 5.0]]))
    # Quantiles of 1, 3, 5 are the edges, the first moved to 0; a column of one value has no bin with a width.
    expected = [[0.5, 0.0, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    assert bins(torch.tensor([[1.5, 5.0], [4.0, 9.0], [99.0, -1.0]])).tolist() == expected


def test_nobody_and_one_row_are_answered_and_unused_slots_say_nought() -> None:
    torch.manual_seed(0)
    model = Tags().eval()
    model.learn(torch.rand(50, N_FEATURES))
    model.is_used[[3, N_CATEGORIES]] = 0.0
    category, tag = Served(model)(torch.zeros(1, N_FEATURES), torch.zeros(1, VECTOR_WIDTH))
    assert category.shape == (1, N_CATEGORIES)
    assert tag.shape == (1, N_FUTURE_TAGS)
    assert category[0, 3] == tag[0, 0] == 0.0
    assert ((tag[0, 1:] > 0) & (tag[0, 1:] < 1)).all()


def test_what_is_served_is_what_torch_says_for_any_batch(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Tags()
    model.learn(torch.rand(200, N_FEATURES) * 9)
    with torch.no_grad():
        for member in model.members:
            torch.nn.init.normal_(member.vector.weight)  # type: ignore[arg-type, union-attr]
    model.take_calibration(np.full(N_LABELS, 0.7), np.full(N_LABELS, -0.2))
    served = Served(Tags.from_state(model.state_dict())).eval()
    draw = np.random.default_rng(0)
    rows = {
        "features": (draw.random((7, N_FEATURES)) * 9).astype(np.float32),
        "shopper_vector": draw.normal(size=(7, VECTOR_WIDTH)).astype(np.float32),
    }
    expected = stage(tmp_path / "tags", served, Served.signature, rows, config_of("tags", Served.signature))
    for some in (rows, {name: array[:1] for name, array in rows.items()}):
        answered = onnxruntime_answers(tmp_path / "tags", Served.signature, some)
        for name, answer in answered.items():
            # Two runtimes sum 1,195 products in float32 in other orders; worst seen 3e-7.
            np.testing.assert_allclose(answer, expected[name][: len(answer)], atol=1e-5)


def test_the_net_learns_what_no_line_can() -> None:
    found = planted()
    task, cases = OutlookTask(found), cases_of(found)
    torch.manual_seed(0)
    ours, linear = Tags(1), Logistic()
    areas = []
    for model in (ours, linear):
        fit_tags(task, model, replace(QUICK, n_epochs=12, batch=32, patience=12), silent, None)
        figures = multilabel.figures(said_of(model, found, cases), cases, np.ones((1, cases.shopper.size)))
        areas.append(float(figures["macro_ap"][0]))
    assert areas[0] > 0.75
    assert areas[1] < 0.6


def test_the_study_stands_beside_its_rivals_and_tells_every_slice(little: Outlook) -> None:
    model, evidence = outlook.study(little, replace(QUICK, n_epochs=2), silent, None)
    assert [row.name for row in evidence.rows] == ["tags net", "logistic regression", "own recent share"]
    assert {"category_macro_ap", "macro_f1", "accuracy", "quiet_ece", "busy_ece"} <= set(evidence.metrics())
    assert evidence.n["sessions"] == (little.of(TEST) >= little.n_weekly).sum()
    assert model.is_used.sum() == little.is_used.sum()


def test_a_net_that_loses_to_a_rival_is_known_as_lost(little: Outlook) -> None:
    """A net that has learned next to nothing; the rivals learn as always. What is lost is not exported."""
    _, evidence = outlook.study(little, Recipe(n_epochs=2, batch=512, learning_rate=1e-7), silent, None)
    lost = {row.rival for row in evidence.against if row.figure == "category_macro_ap" and row.is_lost}
    assert lost == {"logistic regression", "own recent share"}


def test_figures_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(5)
    labels, observed = draw.random((200, 4)) < 0.3, draw.random((200, 4)) < 0.8
    probs = np.clip(0.3 * labels + 0.7 * draw.random((200, 4)), 0.0, 1.0)
    truth, families = Truth(labels, observed), {"first": slice(0, 2), "last": slice(2, 4)}
    cases = Cases(truth, truth, families, np.arange(200), {"all": np.ones(200, np.bool_)})
    found = multilabel.figures(Said(probs, probs), cases, np.ones((2, 200)))
    of = [(labels[seen, label], probs[seen, label]) for label, seen in enumerate(observed.T)]
    said = [(true, prob >= cut) for (true, prob), cut in zip(of, multilabel.thresholds_of(probs, truth), strict=True)]
    pooled = [np.concatenate(part) for part in zip(*said, strict=True)]
    expected = {
        "macro_ap": np.mean([average_precision_score(true, prob) for true, prob in of]),
        "last_macro_ap": np.mean([average_precision_score(true, prob) for true, prob in of[2:]]),
        "macro_f1": np.mean([f1_score(true, is_said) for true, is_said in said]),
        "micro_f1": f1_score(*pooled),
        "precision": precision_score(*pooled),
        "accuracy": np.mean(pooled[0] == pooled[1]),
    }
    for name, value in expected.items():
        assert found[name].tolist() == pytest.approx([value] * 3), name
    assert {"first_ece", "all_ece", "label_ece"} <= set(found)


@pytest.mark.parametrize("always", [False, True])
def test_a_shop_of_one_class_is_refused(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, always: bool) -> None:
    def same(part: Callable[..., Outcomes]) -> Callable[..., Outcomes]:
        return lambda *asked: replace(part(*asked), labels=np.full_like(part(*asked).labels, always))

    monkeypatch.setattr(outlook, "outcomes_of", same(outcomes_of))
    monkeypatch.setattr(outlook, "session_outcomes", same(session_outcomes))
    monkeypatch.setattr(
        outlook,
        "bought_categories",
        lambda found, grid: np.full((found.ledger.n_shoppers, grid.size, N_CATEGORIES), always),
    )
    with pytest.raises(InvalidTable, match="labels of two classes"):
        outlook_of(dataset, *dataset.weekly(), outlook.without_vectors, silent)


def test_a_feature_that_equals_a_label_is_refused(shop: Shop) -> None:
    dataset = unseen(shop)
    rows, grid = dataset.weekly()
    known = outlook_of(dataset, rows, grid, outlook.without_vectors, silent)
    copied = rows.features.copy()
    copied[:, columns().index("has_viewed")] = known.labels[:, N_CATEGORIES + NAMES.index("orders_7d")]
    with pytest.raises(InvalidInput, match="has_viewed must not equal the label orders_7d"):
        outlook_of(dataset, replace(rows, features=copied), grid, outlook.without_vectors, silent)
