"""docs/schema.md from the canonical tables and docs/shop_toml.md from the mapping's models, both compared by a test.

`python -m training.sources.page` writes them.
"""

from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from training.cleaning.rules import ColumnRules, TableRules
from training.sources.content import BOMB_RATIO
from training.sources.mapping import ColumnSection, ShopSection, TableSection
from training.sources.names import short_name
from training.sources.tables import TABLES, Column, Table

PAGE, SHOP_TOML_PAGE = Path("docs/schema.md"), Path("docs/shop_toml.md")

HEAD = """# What a shop's data must look like

<!-- Written by `python -m training.sources.page`; edit training/sources/tables.py instead. -->

`stratagem ingest FOLDER` reads one file per table, named for it, as `.csv` (UTF-8, with a header), `.tsv`, `.jsonl`
(one object a line), `.json` (an array) or `.parquet`, plain or packed as `.gz` or `.zst`:
`events.csv`, `items.jsonl.gz` ...
Data in other columns, places or formats is described by a `shop.toml` (docs/shop_toml.md). The embedded data set
`complete_journey` becomes the same tables. {mandatory} must be there; any other table may be left out and is
then empty.

- An id is text; a whole number is taken as its digits.
- A time is whole seconds since 1970 UTC. In its short form (`time` for `time_s`) it is a date or time in ISO 8601, such
  as `2024-05-31T18:04:00+02:00`; one that says no offset is read as UTC, and ingest says how many were.
- Money is micros, whole millionths of the shop's one currency. In its short form (`paid` for `paid_micros`) it is an
  amount in currency units, such as `12.99`, converted digit by digit; a seventh decimal rounds half up.
- Empty text, JSON null and a column left out all mean unset.
- A row that cannot be understood goes to `quarantine.parquet` with its file, line and a sentence that names column,
  rule and value; ingest says how many there are. So does a row that is understood but cannot be used, and
  `cleaning.json` says what and why. A missing column, an empty file, or a table most of whose rows cannot be read
  ends ingest with one
  sentence, and nothing is written.
- An item that only events name gets a row of its own, with its id for a title.
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


SHOP_TOML_HEAD = """# shop.toml: where a shop's data is and what its columns mean

<!-- Written by `python -m training.sources.page`; edit training/sources/mapping.py instead. -->

`stratagem ingest shop.toml`, or the folder that holds it, reads what this file names. A key that stands nowhere below
is refused. `stratagem inspect FILE` proposes one. Tables: {tables}; their columns are in docs/schema.md.

```toml
{example}```

Every file, object, query or relation is parsed once and kept beside the shop, so that a run after which nothing changed
does nothing, and a new file is all that is parsed when it comes. What is removed from the sources disappears from the
shop. A packed file that is damaged, or that unpacks to more than {ratio} times its size, is read up to there and said
to be. A connection that breaks in mid-read ends ingest and leaves the old shop, unless `on_interruption = "keep"`.
"""
EXAMPLE = """[shop]
name = "gift shop"
currency_code = "GBP"
time_zone = "Europe/London"
train_until = 2010-09-01
country = "GB"
paydays = [25]
[shop.rates]
EUR = 0.85

[events]
source = "orders/*.csv.gz"
[events.columns]
shopper_id = "Customer ID"
time = { column = "InvoiceDate", format = ["%d/%m/%Y %H:%M", "%Y-%m-%d"] }
kind = { column = "Invoice", starts_with = { C = "refund" }, otherwise = "order" }
item_id = "StockCode"
quantity = { column = "Quantity", absolute = true }
paid = { product = ["Quantity", "Price"], absolute = true }
currency = "Currency"
[events.clean]
returns = "match"

[items]
source = "orders/*.csv.gz"
repeated = "most_frequent"
[items.columns]
item_id = "StockCode"
title = "Description"
price = "Price"
"""


def shop_toml_page() -> str:
    """Return docs/shop_toml.md: every key of shop.toml with its type, meaning and default."""
    tables = ", ".join(f"`[{name}]`" for name in TABLES)
    head = SHOP_TOML_HEAD.format(tables=tables, example=EXAMPLE, ratio=BOMB_RATIO)
    parts = [
        _keys("`[shop]`", "What holds for every table.", ShopSection),
        _keys("`[<table>]`", "One table and its source.", TableSection),
        _keys("A column in `[<table>.columns]`", CURRENCY_KEY, ColumnSection),
        _keys("`[<table>.clean]`", "How the table is cleaned; docs/cleaning.md says more.", TableRules),
        _keys("`[<table>.clean.columns.<column>]`", "What is done with one column's values.", ColumnRules),
    ]
    return "\n".join([head, *parts])


CURRENCY_KEY = (
    "The name of a source's column, or a table of these keys. `currency` may stand beside a table's columns: the ISO "
    "code of each row's money; a code without a rate in `[shop.rates]` sends the row to quarantine."
)


def _keys(title: str, meaning: str, model: type[BaseModel]) -> str:
    rows = "\n".join(_key(name, field) for name, field in model.model_fields.items())
    return f"""## {title}

{meaning}

| key | meaning | default |
| --- | --- | --- |
{rows}
"""


def _key(name: str, field: FieldInfo) -> str:
    default = "must be given" if field.is_required() else _default(field.get_default(call_default_factory=True))
    return f"| `{name}` | {(field.description or '').replace('|', chr(92) + '|')} | {default} |"


def _default(value: object) -> str:
    if value is None or value in ("", (), {}) or isinstance(value, BaseModel):
        return "unset"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(schema_page())
    SHOP_TOML_PAGE.write_text(shop_toml_page())
