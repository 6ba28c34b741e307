"""docs/features.md from the lists of columns: `python -m training.features.page` writes it, a test compares it."""

from pathlib import Path

from training.features.columns import COLUMNS, WHAT, Column

PAGE = Path("docs/features.md")

HEAD = """# Every feature

<!-- Written by `python -m training.features.page`; edit the kernels' own lists or training/features/columns.py. -->

`stratagem features` writes these tables to `build/features` as Parquet, and `features.json` beside them with the same
columns, the digest of the inputs and how the probability of churn did on the validation window: `n` shopper-weeks, and
where `n` is 0, because a window is too short to look ahead in, null for every figure. Shoppers are cut into partitions
by a hash of their id: `shoppers-00000-of-00004.parquet`, and so `events` and `sequences`.

- A moment of query is midnight after the last event, or what `--at` says. *Just before at_s* knows all of the second
  before, and nothing of that second or later. *Just before this event* knows the rows above it in the order of its
  shopper, device, address or card; *with this event* also knows the event itself. Appending later rows changes
  nothing (tests/training/features/test_as_of.py).
- What is fitted is fitted on the training window alone and then stands: `tags.json`, `item_limits.json`, `codes.json`,
  `text/`, and `normalisation.json`, which has mean and scale of every number that a kernel writes. Values in the tables
  are not normalised.
- NaN is a number that is not known; null is a word, a code or a vector that is not known.

A shopper's tier follows from the scores of recency (R), frequency (F) and money (M); the first rule that holds counts:
champion R, F, M ≥ 4 · loyal R ≥ 3, F ≥ 4 · big spender R ≥ 3, M ≥ 4 · recent R ≥ 4 · slipping R ≤ 2 and F or M ≥ 4 ·
occasional R = 3 · dormant. The lifecycle follows from how long the shopper has been due: the time since the last order
over the expected gap. Prospect never ordered · lapsed beyond nineteen in twenty gaps of training shoppers · at risk
beyond four in five · new after one order · won back if the gap before the last order had lasted until lapsed · active.
"""


def features_page() -> str:
    """Return docs/features.md: every column of every feature table."""
    return "\n".join([HEAD, *(_section(table, columns) for table, columns in COLUMNS.items())])


def _section(table: str, columns: tuple[Column, ...]) -> str:
    rows = "\n".join(_row(column) for column in columns)
    return f"""## {table}

{WHAT[table]}

| column | unit | type | as of | fitted on | meaning | file |
| --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


def _row(column: Column) -> str:
    cells = (
        f"`{column.name}`", column.unit, column.dtype, column.as_of or "its row", column.fitted or "nothing",
        column.meaning, f"`{column.file}`",
    )  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(features_page())
