"""docs/schema.md from the canonical tables: `python -m training.sources.page` writes it, a test compares it."""

from pathlib import Path

from training.sources.names import short_name
from training.sources.tables import TABLES, Column, Table

PAGE = Path("docs/schema.md")

HEAD = """# What a shop's data must look like

<!-- Written by `python -m training.sources.page`; edit training/sources/tables.py instead. -->

`stratagem ingest FOLDER` reads one file per table, named for it, as `.csv` (UTF-8, with a header), `.jsonl` (one
object a line) or `.parquet`: `events.csv`, `items.jsonl`, `offers.parquet` ... The embedded data set `complete_journey`
becomes the same tables. {mandatory} must be there; any other table may be left out and is then empty.

- An id is text; a whole number is taken as its digits.
- A time is whole seconds since 1970 UTC. In its short form (`time` for `time_s`) it is a date or time in ISO 8601, such
  as `2024-05-31T18:04:00+02:00`; one that says no offset is read as UTC, and ingest says how many were.
- Money is micros, whole millionths of the shop's one currency. In its short form (`paid` for `paid_micros`) it is an
  amount in currency units, such as `12.99`, converted digit by digit; a seventh decimal rounds half up.
- Empty text, JSON null and a column left out all mean unset.
- What cannot be understood ends ingest with one sentence naming file, line, column, rule and value, and nothing is
  written. What is understood but cannot be used is removed or clipped, and `cleaning.json` says what and why.
"""


def schema_page() -> str:
    """Return docs/schema.md: every canonical table with the type, meaning and unset value of its columns."""
    mandatory = " and ".join(f"`{table.name}`" for table in TABLES.values() if table.mandatory)
    return "\n".join([HEAD.format(mandatory=mandatory), *(_section(table) for table in TABLES.values())])


def _section(table: Table) -> str:
    rows = "\n".join(_row(column) for column in table.columns)
    key = f" `{', '.join(table.key)}` appears once." if table.key else ""
    return f"""## {table.name}

{table.meaning}{key}

| column | type | meaning | unset means |
| --- | --- | --- | --- |
{rows}
"""


def _row(column: Column) -> str:
    short = short_name(column)
    name = f"`{column.name}`" + (f" or `{short}`" if short else "") + ("" if column.required else " (optional)")
    choices = ": " + ", ".join(f"`{value}`" for value in column.one_of) if column.one_of else ""
    meaning = column.meaning.replace("|", "\\|") + choices
    return f"| {name} | {column.dtype} | {meaning} | {column.unset or 'never unset: such a row is removed'} |"


if __name__ == "__main__":
    PAGE.write_text(schema_page())
