"""The page of an ingest opens without a network, draws every figure and hides nothing."""

import copy
import re
import subprocess
from pathlib import Path

import pytest

from evaluation.ingest_figures import Distribution, Numbers
from evaluation.ingest_page import CleaningFile, ShopFile, html
from tests.requirements import require_program

N_ROWS, N_MISSING = 1_000_000, 25_000
BEFORE: Numbers = {"n_rows": N_ROWS, "n_missing": N_MISSING, "least": 0.0, "mean": 2e6, "most": 9e9}
AFTER: Numbers = {"n_rows": 900_000, "n_missing": 0, "least": 0.0, "mean": 1.5e6, "most": 5e6}


def distribution(column: str, unit: str, **parts: object) -> Distribution:
    """One column of events, with no picture unless `parts` gives one."""
    told: Distribution = {
        "table": "events", "column": column, "unit": unit, "before": BEFORE, "after": AFTER, "n_sampled": 200_000,
        "edges": [], "scale": "linear", "values": [], "counts_before": [], "counts_after": [],
    }  # fmt: skip
    told.update(parts)  # type: ignore[typeddict-item]
    return told


CLEANING: CleaningFile = {
    "train_until_s": 1_283_299_200,
    "rows_in": {"events": N_ROWS, "items": 0},
    "rows_out": {"events": 900_000, "items": 0},
    "rules": [
        {
            "table": "events", "rule": "missing_value", "column": "shopper_id", "meaning": "Nobody <is> named.",
            "action": "removed", "n_rows": 100_000,
            "examples": [{"input": "orders.csv", "line": 4711, "before": {"kind": "order", "paid_micros": 12_340_000,
                                                                       "time_s": 1_283_299_200}, "after": None}],
        },
        {
            "table": "events", "rule": "outlier", "column": "paid_micros", "meaning": "Too far out; clipped.",
            "action": "changed", "n_rows": 3,
            "examples": [{"input": "orders.csv", "line": 9, "before": {"paid_micros": 9_000_000_000},
                          "after": {"paid_micros": 5_000_000}}],
        },
    ],
    "fitted": [
        {"table": "events", "column": "paid_micros", "statistic": "outlier above", "value": 5e6, "n_values": 7_654_321,
         "window": "training window", "is_sampled": False},
    ],
    "returns": {
        "n_refunds": 400, "n_full": 300, "n_part": 40, "n_unmatched": 60, "n_units": 9.0, "n_units_matched": 7.0,
    },
    "distributions": [
        distribution("paid_micros", "micros", edges=[1e4, 1e5, 1e6], scale="log", counts_before=[3, 2],
                     counts_after=[2, 2]),
        distribution("time_s", "s", edges=[-9e15, 1e9, 9e15], counts_before=[1, 5], counts_after=[0, 5]),
        distribution("kind", "", values=["order", "view"], counts_before=[5, 2], counts_after=[4, 2]),
    ],
    "notes": ["items.price_micros hardly varies; no limit of outliers was fitted."],
}  # fmt: skip
SHOP: ShopFile = {
    "shop": "Tea & Co",
    "currency_code": "GBP",
    "notes": ["12 times say no offset."],
    "quarantine": {"events": {"missing_value": 100_000, "ragged_row": 17}},
}


@pytest.fixture(scope="module")
def page() -> str:
    """A page with every part filled, on made-up numbers."""
    return html(CLEANING, SHOP)


def text_of(page: str) -> str:
    """What a reader sees, scripts and tags aside."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", page)))


def test_page_opens_in_a_browser_with_every_figure_drawn(page: str, tmp_path: Path) -> None:
    require_program("chromium", "chromium")
    file = tmp_path / "ingest.html"
    file.write_text(page)
    quiet = "--headless --no-sandbox --disable-gpu --no-first-run --disable-sync --disable-background-networking"
    browser = ["chromium", *quiet.split(), "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"]
    browser += ["--virtual-time-budget=8000", "--dump-dom", file.as_uri()]
    dom = subprocess.run(browser, capture_output=True, text=True, timeout=120, check=True).stdout
    # Rows lost by reason, columns of numbers, columns of text.
    assert len(re.findall(r'class="plot-container plotly"', dom)) == 3
    assert "events: paid, GBP" in dom


def test_page_names_no_address_outside_itself(page: str) -> None:
    assert re.findall(r'(?:src|href)="(?!data:|#)', page.split("</script>", 1)[1]) == []


def test_page_counts_unreadable_rows_among_those_that_came_in(page: str) -> None:
    text = text_of(page)
    assert "1,000,017 rows came in" in text
    assert "900,000 rows went out" in text
    assert "100,017 rows removed (10 %)" in text
    assert "events ragged row" in text


def test_page_says_what_each_rule_did_with_file_and_line(page: str) -> None:
    text = text_of(page)
    assert "Nobody &lt;is&gt; named." in page
    assert "orders.csv, line 4711 kind = order · paid = 12.34 GBP · time = 2010-09-01 00:00:00 UTC" in text
    assert "orders.csv, line 9 paid = 9,000.00 GBP → paid = 5.00 GBP" in text


def test_page_tells_returns_fitted_values_and_notes(page: str) -> None:
    text = text_of(page)
    assert "85 % of 400 refund lines found their order" in text
    assert "events.paid outlier above 5.00 GBP 7,654,321 values of the training window" in text
    assert "12 times say no offset." in text
    assert "hardly varies" in text
    assert "Tea &amp; Co" in page


def test_a_column_is_told_in_figures_before_and_after(page: str) -> None:
    assert "events.paid 2.5 % 0 % 0.00 GBP 0.00 GBP 2.00 GBP 1.50 GBP 9,000.00 GBP 5.00 GBP" in text_of(page)


def test_a_clean_shop_says_so() -> None:
    clean = copy.deepcopy(CLEANING)
    clean.update(rules=[], fitted=[], returns=None, distributions=[], notes=[], rows_out=clean["rows_in"])
    text = text_of(html(clean, {"shop": "s", "currency_code": "USD", "notes": [], "quarantine": {}}))
    assert "No rule caught a row" in text
    assert "Why rows were removed" not in text
