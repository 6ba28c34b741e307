"""shop.toml in, a checked description of where every canonical column comes from out; shop.ingest calls it.

docs/shop_toml.md is written from these models: `python -m training.sources.page`.
"""

import datetime
import tomllib
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from training.cleaning.rules import TableRules
from training.sources.names import short_name
from training.sources.tables import TABLES, Column, Days, InvalidTable, Table

FILE = "shop.toml"


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _known_zone(zone: str | None) -> str | None:
    if zone is not None:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("must be an IANA time zone such as Europe/London") from error
    return zone


class ShopSection(_Section):
    """`[shop]`: what holds for every table."""

    name: str = Field(default="", description="what the shop is called; unset: the folder's name")
    currency_code: str = Field(default="USD", pattern="^[A-Z]{3}$", description="ISO 4217 code of the shop's money")
    time_zone: str = Field(default="UTC", description="IANA name; of times that say no offset, and of the calendar")
    train_until: datetime.date | None = Field(
        default=None,
        description="first day after the training window, which ends at the shop's own midnight; unset: three quarters "
        "of the events' span",
    )
    country: str = Field(default="", pattern="^([A-Z]{2})?$", description="ISO 3166 code whose public holidays count")
    holidays: tuple[datetime.date, ...] = Field(default=(), description="further days off")
    paydays: tuple[Annotated[int, Field(ge=1, le=31)], ...] = Field(
        default=(1,), description="days of the month on which shoppers are paid"
    )
    rates: Mapping[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default={}, description="`[shop.rates]`: units of the shop's currency for one unit of another, by ISO code"
    )

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, zone: str) -> str | None:
        return _known_zone(zone)

    @property
    def train_until_s(self) -> int | None:
        """When the day that ends the training window begins, seconds since 1970 UTC."""
        if self.train_until is None:
            return None
        midnight = datetime.datetime.combine(self.train_until, datetime.time(), zoneinfo.ZoneInfo(self.time_zone))
        return int(midnight.timestamp())

    @property
    def days(self) -> Days:
        """The calendar that training reads."""
        return Days(self.time_zone, self.country, tuple(day.isoformat() for day in self.holidays), self.paydays)


class ColumnSection(_Section):
    """Where one canonical column comes from, if more is to be said than a name."""

    column: str | None = Field(default=None, description="the source's column")
    constant: str | int | float | None = Field(default=None, description="the same value in every row")
    product: tuple[str, ...] | None = Field(
        default=None, min_length=2, description="numbers of these columns multiplied, exactly to a micro"
    )
    format: Texts = Field(default=(), description="a time's strptime pattern, or several that are tried in order")
    unit: Literal["s", "ms", "us"] | None = Field(default=None, description="the times are numbers since 1970")
    time_zone: str | None = Field(default=None, description="of times that say no offset; unset: the shop's")
    values: Mapping[str, str] = Field(default={}, description="the source's values and what each becomes")
    starts_with: Mapping[str, str] = Field(
        default={}, description="beginnings of the source's values and what such a value becomes; the first that fits"
    )
    otherwise: str | None = Field(
        default=None, description="what any other value becomes; unset: it stays, and must be allowed as it is"
    )
    absolute: bool = Field(default=False, description="a number's sign is left off")

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, zone: str | None) -> str | None:
        return _known_zone(zone)

    @model_validator(mode="after")
    def _has_one_origin(self) -> "ColumnSection":
        if sum(origin is not None for origin in (self.column, self.constant, self.product)) != 1:
            raise ValueError("must say one of column, constant and product")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The source's columns that it needs."""
        return self.product or ((self.column,) if self.column is not None else ())


def _spelled(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class TableSection(_Section):
    """`[events]`, `[items]` and so on: one canonical table."""

    source: Texts = Field(
        default=(), description='file, glob or "s3://bucket/prefix/", or a list of them; relative to shop.toml'
    )
    database: str | None = Field(default=None, description='"postgresql://…" or "sqlite:///file.db"')
    query: str | None = Field(default=None, description="what to ask the database; or say relation")
    relation: str | None = Field(
        default=None,
        description="table or view of the database; one of PostgreSQL has no row order, so that rows of one shopper "
        "and second may change places between two reads; a query with `order by` keeps them",
    )
    on_interruption: Literal["refuse", "keep"] = Field(
        default="refuse", description="a database that goes away in mid-read: refuse ends ingest, keep takes what came"
    )
    format: Literal["csv", "tsv", "json", "jsonl", "parquet"] | None = Field(
        default=None, description="unset: by the ending of the name"
    )
    separator: str | None = Field(
        default=None, description='between two fields; "spaces": runs of blanks; unset: comma, or tab for tsv'
    )
    header: tuple[str, ...] | None = Field(default=None, description="names of the columns of a file without a header")
    encoding: str | None = Field(default=None, description="of text; unset: UTF-8, or what a byte-order mark says")
    columns: Mapping[str, Annotated[ColumnSection, BeforeValidator(_spelled)]] = Field(
        default={},
        description="`[<table>.columns]`: canonical or short name = where it comes from; without the section, the "
        "source must use those names itself",
    )
    repeated: Literal["first", "last", "most_frequent"] | None = Field(
        default=None, description="which row counts of a key that comes again; unset: the later ones go to quarantine"
    )
    clean: TableRules = Field(default=TableRules(), description="`[<table>.clean]`: see docs/cleaning.md")

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, encoding: str | None) -> str | None:
        if encoding is not None:
            try:
                # Python also calls rot13 and hex encodings, but not of text.
                "a".encode(encoding)
            except LookupError as error:
                raise ValueError("must be an encoding such as latin-1, cp1252 or gb18030") from error
        return encoding

    @field_validator("separator")
    @classmethod
    def _is_one_character(cls, separator: str | None) -> str | None:
        if separator not in (None, "spaces") and (
            len(separator) != 1 or not separator.isascii() or separator in '"\r\n'
        ):
            raise ValueError('must be one ASCII character, or "spaces"')
        return separator

    @model_validator(mode="after")
    def _has_one_origin(self) -> "TableSection":
        if bool(self.source) == (self.database is not None):
            raise ValueError("must say either source or database")
        if self.database is not None and (self.query is None) == (self.relation is None):
            raise ValueError("must say either query or relation beside database")
        return self


class ShopFile(_Section):
    """shop.toml as a whole."""

    shop: ShopSection = ShopSection()
    events: TableSection
    items: TableSection | None = None
    shoppers: TableSection | None = None
    offers: TableSection | None = None
    exposures: TableSection | None = None
    outcomes: TableSection | None = None
    placements: TableSection | None = None
    reviews: TableSection | None = None

    @property
    def tables(self) -> dict[str, TableSection]:
        """The sections that are there, in the order of TABLES."""
        return {name: section for name in TABLES if (section := getattr(self, name)) is not None}


def read_mapping(path: Path) -> ShopFile:
    """Return what a shop.toml says.

    raises  InvalidTable  in one sentence with the file, the key, the rule and the value
    """
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidTable(f"{path.name} must be readable, got {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidTable(f"{path.name} must be TOML in UTF-8, got: {error}") from error
    try:
        mapping = ShopFile.model_validate(written)
    except ValidationError as error:
        raise InvalidTable(_sentence(path.name, error)) from error
    for name, section in mapping.tables.items():
        _check_columns(path.name, TABLES[name], section)
    return mapping


def _sentence(file: str, error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "extra_forbidden":
            return f"{file}: {key} is no key that stands there"
        case "missing":
            return f"{file}: {key} must be given"
    rule = first["msg"].removeprefix("Value error, ")
    rule = rule if rule.startswith("must") else f"must follow its rule ({rule[:1].lower()}{rule[1:]})"
    value = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
    return f"{file}: {key} {rule}{value}"


def canonical(table: Table, name: str) -> tuple[Column, bool] | None:
    """Return the column that a canonical or short name means, and whether it is short; None if there is none."""
    for column in table.columns:
        if name in (column.name, short_name(column)):
            return column, name != column.name
    return None


def _check_columns(file: str, table: Table, section: TableSection) -> None:
    given: dict[str, str] = {}
    for name in section.columns:
        if name == "currency" and any(column.name.endswith("_micros") for column in table.columns):
            continue
        found = canonical(table, name)
        if found is None:
            known = ", ".join(column.name for column in table.columns)
            raise InvalidTable(f"{file}: {table.name}.columns.{name} must be a column of {table.name} ({known})")
        if found[0].name in given:
            raise InvalidTable(f"{file}: {table.name}.columns must give {given[found[0].name]} or {name}, got both")
        given[found[0].name] = name
    # A quantity or an amount that nobody maps has a meaning when unset; an id or a time has none.
    missing = [each.name for each in table.columns if each.required and each.fill is None and each.name not in given]
    if section.columns and missing:
        raise InvalidTable(f"{file}: {table.name}.columns must say where {missing[0]} comes from")
