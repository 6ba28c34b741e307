"""The report opens in a real browser without a network and draws every figure."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from evaluation import figures, report
from tests.requirements import require_program

N_FIGURES = 7


@pytest.fixture(scope="module")
def page() -> report.Page:
    """A page with every part filled, on made-up numbers."""
    random = np.random.default_rng(0)
    spend = np.linspace(0, 400e6, 30)
    histogram = figures.Histogram(edges=[0, 0.25, 0.5, 0.75, 1], counts=[4, 3, 2, 1])
    deciles = [figures.Decile(10 - rank, 9 - rank, 4 - rank, 14 - rank) for rank in range(10)]
    return report.Page(
        title="A strategy",
        caveat="Made-up numbers <for a test>.",
        tiles=[("budget", "$300"), ("λ", "1.42")],
        frontier=figures.Frontier(
            [int(s) for s in spend], [int(3e4 * np.sqrt(s)) for s in spend], 300_000_000, 519_000_000, 0.87, "USD"
        ),
        channels=(["ads", "promotions"], [100_000_000, 200_000_000], [300_000_000, 219_000_000]),
        channel_notes=["Social: no evidence, no money."],
        strategies=[report.Strategy("17", "Send a coupon", [("worth", "$0.42")], ["It pays."])],
        models=[("response", report.Table(["model", "AP"], [["ours", "*0.31"], ["rival", "0.29"]]))],
        deciles={"A": deciles, "B": deciles},
        overlap={"A": (histogram, histogram)},
        reliability={"categories": figures.Reliability([0.01, 0.1, 0.5], [0.012, 0.0, 0.52], [900, 90, 9])},
        latency_ms=random.lognormal(1, 0.2, 500).tolist(),
        features={f"feature {i}": histogram for i in range(6)},
        made_by="a test",
    )


def test_page_opens_in_a_browser_with_every_figure_drawn(page: report.Page, tmp_path: Path) -> None:
    require_program("chromium", "chromium")
    file = tmp_path / "report.html"
    file.write_text(report.html(page))
    # Offline on purpose: a page that fetched its script would draw nothing.
    quiet = "--headless --no-sandbox --disable-gpu --no-first-run --disable-sync --disable-background-networking"
    browser = ["chromium", *quiet.split(), "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"]
    browser += ["--virtual-time-budget=8000", "--dump-dom", file.as_uri()]
    dom = subprocess.run(browser, capture_output=True, text=True, timeout=120, check=True).stdout
    assert len(re.findall(r'class="plot-container plotly"', dom)) == N_FIGURES
    assert "this plan" in dom
    assert "Made-up numbers &lt;for a test&gt;." in dom


def test_page_names_no_address_outside_itself(page: report.Page) -> None:
    body = report.html(page).split("</script>", 1)[1]
    assert re.findall(r'(?:src|href)="(?!data:|#)', body) == []
