"""The canonical tables of a shop: the one definition that readers fill, cleaning checks and docs/schema.md prints.

Ids are strings, money is whole micros (millionths) of the shop's currency, time is whole seconds UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from kernels.checks import InvalidInput

CHANNELS = ("ads", "promotions", "content", "social")
EVENT_KINDS = ("view", "cart", "order", "refund")
OUTCOME_KINDS = ("redemption", "click")
OFFER_KINDS = ("amount", "percent", "free_shipping", "gift", "points")
DAY_S = 86_400
WEEK_S = 7 * DAY_S

TEXT, WHOLE, REAL, TEXTS = pl.String(), pl.Int64(), pl.Float64(), pl.List(pl.String())


class InvalidTable(InvalidInput):
    """A table broke a rule of its schema; the message names the file, the column, the rule, the value and the line."""


@dataclass(frozen=True)
class Column:
    """One column of a canonical table.

    meaning   what a value says, with its unit and range
    unset     what a missing value means; None: a row without one is unusable and cleaning removes it
    required  whether a file must have the column; one left out is all unset
    fill      what readers put where a value is unset; None: it stays null
    one_of    the only values there may be; empty: any
    least, most  inclusive range of a number
    above     a number must be greater than this
    """

    name: str
    dtype: pl.DataType
    meaning: str
    unset: str | None = None
    required: bool = False
    fill: int | float | None = None
    one_of: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None


@dataclass(frozen=True)
class Table:
    """One canonical table.

    meaning    what a row is
    mandatory  whether a shop must have it; an optional one that is left out is empty
    key        columns whose values together appear once; empty: rows are only told apart by all columns
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    mandatory: bool = False
    key: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Column names and types, in order."""
        return {column.name: column.dtype for column in self.columns}

    def empty(self) -> pl.DataFrame:
        """The table without rows."""
        return pl.DataFrame(schema=self.schema)


def _id(name: str, meaning: str, unset: str | None = None, *, required: bool = True) -> Column:
    return Column(name, TEXT, meaning, unset, required)


def _text(name: str, meaning: str, unset: str = "unknown", *, required: bool = False) -> Column:
    return Column(name, TEXT, meaning, unset, required)


def _time(name: str, meaning: str, unset: str | None = None) -> Column:
    return Column(name, WHOLE, f"{meaning}, seconds since 1970 UTC", unset, required=unset is None)


def _money(name: str, meaning: str, unset: str, *, required: bool = False, fill: int | None = None) -> Column:
    return Column(name, WHOLE, f"{meaning}, micros, ≥ 0", unset, required, fill, least=0)


def _verdict(name: str, meaning: str) -> Column:
    return Column(name, WHOLE, meaning, "not known", least=0, most=1)


def _channel(meaning: str) -> Column:
    return Column("channel", TEXT, meaning, required=True, one_of=CHANNELS)


EVENTS = Table(
    "events",
    "One thing a shopper did with one item: a product view, a cart addition, one line of an order, one refunded line.",
    (
        _id("shopper_id", "who"),
        _time("time_s", "when"),
        Column("kind", TEXT, "what was done", required=True, one_of=EVENT_KINDS),
        _id("item_id", "with which item; an id of items"),
        Column("quantity", REAL, "how many units, in the unit the item is sold in, ≥ 0", "1", True, 1.0, least=0),
        _money(
            "paid_micros",
            "what the shopper paid for the line after every discount; on a refund, what was given back",
            "0; an order or a refund must say it",
            required=True,
            fill=0,
        ),
        _money("discount_micros", "the shop's own price cut on the line", "0", fill=0),
        _money("coupon_micros", "coupon discount on the line, whoever bears it", "0", fill=0),
        _id("order_id", "which order the line belongs to", "not part of an order (view, cart)", required=False),
        _id("store_id", "which store or sales channel sold it", "unknown, or there is only one", required=False),
        _id("device_id", "the device or browser it came from; counted for risk", "unknown", required=False),
        _id("address_id", "the delivery or network address; counted for risk", "unknown", required=False),
        _id("card_id", "the means of payment, never its number; counted for risk", "unknown", required=False),
        _verdict("is_fraud", "1 if the order proved to be fraud, 0 if it did not"),
    ),
    mandatory=True,
)

ITEMS = Table(
    "items",
    "One product that can be sold.",
    (
        _id("item_id", "the product"),
        _text("title", "what a shopper calls it", "nobody named it; its id is shown"),
        _text("description", "what the shop says of it", "nothing"),
        _text("category", "the group that a shopper would look under", "in no category"),
        _text("department", "the group of categories"),
        _text("brand", "who makes or owns it"),
        _money("price_micros", "typical price of one unit", "unknown"),
        _money("cost_micros", "what one unit costs the shop", "unknown, and so is its margin"),
    ),
    key=("item_id",),
)

SHOPPERS = Table(
    "shoppers",
    "What a shopper declared. A shopper without a row is a shopper who declared nothing.",
    (
        _id("shopper_id", "who"),
        _text("age_band", "age in years, as a band such as 35-44"),
        _text("gender", "as declared"),
        _text("occupation", "as declared"),
        _text("income_band", "yearly household income, as a band such as 50-74K"),
        _text("household_size", "people in the household, as a number or a band such as 5+"),
        _text("n_children", "children in the household, as a number or a band such as 3+"),
        _time("signed_up_s", "when the account was opened", unset="unknown"),
    ),
    key=("shopper_id",),
)

OFFERS = Table(
    "offers",
    "One offer that can be sent: a discount on a group of items within a campaign.",
    (
        _id("offer_id", "the offer"),
        _id("campaign_id", "the campaign that carries it"),
        _id("arm", "the kind of campaign, whose effect is estimated as one"),
        _channel("the channel that carries it"),
        Column("kind", TEXT, "the kind of discount", required=True, one_of=OFFER_KINDS),
        _text("title", "what a shopper reads", "its id is shown"),
        _text("category", "category of the items it covers", "no single category"),
        _money("discount_micros", "expected discount when redeemed", "unknown"),
        _time("starts_s", "from when it can be used"),
        _time("ends_s", "until when it can be used; the first second it cannot"),
        Column("item_ids", TEXTS, "the items it covers; in CSV one text, ids parted by `|`", "every item of category"),
    ),
    key=("offer_id",),
)

EXPOSURES = Table(
    "exposures",
    "One contact: a shopper was sent or shown a campaign.",
    (
        _id("shopper_id", "who"),
        _id("campaign_id", "what was sent"),
        _id("offer_id", "which offer of the campaign", "the whole campaign", required=False),
        _channel("through which channel"),
        _time("time_s", "when"),
        Column(
            "propensity",
            REAL,
            "probability with which this contact was chosen, in (0, 1]",
            "the choice was not random, or nobody kept the probability",
            most=1,
            above=0,
        ),
    ),
)

OUTCOMES = Table(
    "outcomes",
    "One answer to an offer.",
    (
        _id("shopper_id", "who"),
        _id("offer_id", "which offer", required=True),
        _id("campaign_id", "of which campaign"),
        Column("kind", TEXT, "what was done with it", required=True, one_of=OUTCOME_KINDS),
        _time("time_s", "when"),
        _money("value_micros", "the discount it gave", "unknown"),
    ),
)

PLACEMENTS = Table(
    "placements",
    "One item given a place for a week in a store. A week without a row was a week without that placement.",
    (
        _id("item_id", "which item"),
        _id("store_id", "where"),
        Column("week", WHOLE, "number of the week", required=True),
        _time("week_starts_s", "when the week starts"),
        Column("channel", TEXT, "ads: in the mailer; content: on display", required=True, one_of=("ads", "content")),
    ),
)

REVIEWS = Table(
    "reviews",
    "One review that a shopper wrote.",
    (
        _id("review_id", "the review"),
        _id("shopper_id", "who wrote it", "unknown", required=False),
        _id("item_id", "about which item", "the shop as a whole", required=False),
        _time("time_s", "when", unset="unknown"),
        Column("rating", REAL, "the mark given, in the shop's own scale", "none was given"),
        _text("title", "its headline", "none"),
        Column("text", TEXT, "what was written", required=True),
        _verdict("is_deceptive", "1 if the review proved to be written to deceive, 0 if it did not"),
    ),
    key=("review_id",),
)

TABLES: Mapping[str, Table] = {
    table.name: table for table in (EVENTS, ITEMS, SHOPPERS, OFFERS, EXPOSURES, OUTCOMES, PLACEMENTS, REVIEWS)
}


@dataclass(frozen=True)
class Days:
    """What the shop's days are: where midnight is, and which days are not like others.

    time_zone  IANA name of the zone the shop lives in
    country    ISO 3166 code whose public holidays count; empty: none do
    holidays   further days off as ISO 8601 dates, such as 2024-11-29
    paydays    days of the month on which its shoppers are paid, 1 to 31; beyond a month's end means its last day
    """

    time_zone: str = "UTC"
    country: str = ""
    holidays: tuple[str, ...] = ()
    paydays: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Shop:
    """A shop's canonical tables; the columns of each are those of TABLES.

    name           "complete_journey", or what the shop calls itself
    currency_code  ISO 4217 code that every `_micros` column is in
    train_until_s  end of the training window, exclusive; what cleaning fitted, it fitted before this second
    days           its calendar
    """

    events: pl.DataFrame
    items: pl.DataFrame
    shoppers: pl.DataFrame
    offers: pl.DataFrame
    exposures: pl.DataFrame
    outcomes: pl.DataFrame
    placements: pl.DataFrame
    reviews: pl.DataFrame
    name: str = "shop"
    currency_code: str = "USD"
    train_until_s: int = 0
    days: Days = Days()

    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables by name, in the order of TABLES."""
        return {name: getattr(self, name) for name in TABLES}


def shop_of(
    tables: Mapping[str, pl.DataFrame],
    name: str,
    currency_code: str = "USD",
    train_until_s: int = 0,
    days: Days = Days(),
) -> Shop:
    """Return the shop of tables by name; one that is missing is empty."""
    held = {table: tables.get(table, TABLES[table].empty()) for table in TABLES}
    return Shop(
        events=held["events"],
        items=held["items"],
        shoppers=held["shoppers"],
        offers=held["offers"],
        exposures=held["exposures"],
        outcomes=held["outcomes"],
        placements=held["placements"],
        reviews=held["reviews"],
        name=name,
        currency_code=currency_code,
        train_until_s=train_until_s,
        days=days,
    )


@dataclass(frozen=True)
class Breach:
    """The first value of a table that breaks a rule; row counts from 0."""

    column: str
    rule: str
    value: object
    row: int


def whole(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with exactly the table's columns, in order; one that it lacks is all unset.

    frame  columns of `table`, with its types; some may be missing, others are left out
    """
    missing = [column for column in table.columns if column.name not in frame.columns]
    return frame.with_columns(pl.lit(None, column.dtype).alias(column.name) for column in missing).select(
        list(table.schema)
    )


def first_breach(table: Table, frame: pl.DataFrame) -> Breach | None:
    """Return the first value that breaks an enumeration, a range or the key; None if all is well. Nulls break nothing.

    frame  columns of `table`, with its types
    """
    for column in table.columns:
        for broken, rule in _rules(column):
            rows = frame.select(broken.fill_null(False).arg_true().first()).item()
            if rows is not None:
                return Breach(column.name, rule, frame[column.name][int(rows)], int(rows))
    return _repeated_key(table, frame)


def _rules(column: Column) -> list[tuple[pl.Expr, str]]:
    value, rules = pl.col(column.name), []
    if column.one_of:
        rules.append((~value.is_in(list(column.one_of)), "be " + " or ".join(column.one_of)))
    if column.dtype == REAL:
        rules.append((~value.is_finite(), "be a finite number"))
    if column.least is not None:
        rules.append((value < column.least, f"be ≥ {column.least:g}"))
    if column.above is not None:
        rules.append((value <= column.above, f"be > {column.above:g}"))
    if column.most is not None:
        rules.append((value > column.most, f"be ≤ {column.most:g}"))
    return rules


def _repeated_key(table: Table, frame: pl.DataFrame) -> Breach | None:
    if not table.key:
        return None
    keys = frame.select(table.key).drop_nulls()
    if keys.n_unique() == keys.height:
        return None
    row = int(frame.select(pl.struct(table.key).is_first_distinct().not_().arg_true().first()).item())
    name = table.key[0]
    return Breach(name, "appear once", frame[name][row], row)


def check_table(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with exactly the table's columns, in order.

    raises  InvalidTable  naming the first column, type or value that breaks the schema
    """
    for column in table.columns:
        if column.name not in frame.columns:
            raise InvalidTable(f"{table.name} must have a column {column.name}")
        found = frame.schema[column.name]
        if found != column.dtype:
            raise InvalidTable(f"{table.name}: {column.name} must be {column.dtype}, got {found}")
    frame = frame.select(list(table.schema))
    breach = first_breach(table, frame)
    if breach:
        subject = f"{table.name} row {breach.row + 1}: {breach.column}"
        raise InvalidTable(f"{subject} must {breach.rule}, got {breach.value!r}")
    return frame
