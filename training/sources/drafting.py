"""Columns with the roles they could play in, canonical tables and doubts out; inspection.py calls it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from training.sources.profiles import MOST, Profile
from training.sources.proposing import Lines
from training.sources.roles import kind_of
from training.sources.sampling import Sample

Roles = Mapping[tuple[str, str], list[Profile]]


@dataclass
class Draft:
    """The proposal while it is being written.

    roles     (table, column) -> the source's columns that could be it, the likeliest first
    doubts    what is said about it so far
    sections  table -> canonical or short name -> TOML value; None: a column that must be there and was not recognised
    clean     table -> keys of its cleaning
    used      the source's columns that were taken
    is_open   whether a column that must be there was not recognised
    """

    seen: Sample
    profiles: Sequence[Profile]
    roles: Roles
    doubts: list[str]
    sections: dict[str, Lines] = field(default_factory=dict)
    clean: dict[str, Lines] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    is_open: bool = False

    def fill(self) -> None:
        """Decide on every table."""
        if ("reviews", "text") in self.roles:
            self._reviews()
        else:
            self._events()
        self._items()
        self._shoppers()

    def best(self, table: str, column: str) -> Profile | None:
        """The likeliest column for a role; others that sound alike become a doubt."""
        candidates = self.roles.get((table, column), [])
        if len(candidates) > 1:
            others = ", ".join(profile.name for profile in candidates[1:])
            self.doubts.append(f"{column} was taken from {candidates[0].name}; it could also be {others}.")
        return candidates[0] if candidates else None

    def take(self, table: str, column: str, profile: Profile, value: object | None = None) -> None:
        """Map a column, in the plainest way that its values allow."""
        self.used.add(profile.name)
        self.sections.setdefault(table, {})[column] = profile.name if value is None else value

    # events

    def _events(self) -> None:
        shopper, time = self.best("events", "shopper_id"), self.best("events", "time")
        item = self.best("events", "item_id")
        if time is None and (shopper is None or item is None):
            missing = [name for name, each in (("a shopper", shopper), ("an item", item)) if each is None]
            self.doubts.append(f"No column was recognised as a time or {' or '.join(missing)}: these are no events.")
            return
        for column, profile in (("shopper_id", shopper), ("time", time)):
            if profile is None:
                self._ask("events", column)
        if shopper:
            self.take("events", "shopper_id", shopper)
            if shopper.share_missing > 0.001:
                self.doubts.append(
                    f"{shopper.share_missing:.1%} of rows have no {shopper.name}; they cannot be tied to a shopper and "
                    "will go to quarantine."
                )
        if time:
            self._time("events", "time", time)
        if item:
            self.take("events", "item_id", item)
        else:
            self.sections.setdefault("events", {})["item_id"] = {"constant": "unnamed"}
            self.doubts.append('No column names an item; every row is read as the one item "unnamed".')
        for column in ("order_id", "store_id", "device_id", "address_id", "card_id"):
            if profile := self.best("events", column):
                self.take("events", column, profile)
        self._amounts()
        self._kind()

    def _ask(self, table: str, column: str) -> None:
        self.sections.setdefault(table, {})[column] = None
        self.is_open = True
        self.doubts.append(f"No column was recognised as {table}.{column}; name it in the line that is left open.")

    def _time(self, table: str, column: str, profile: Profile) -> None:
        time = profile.time
        assert time is not None
        if time.unit:
            self.take(table, column, profile, {"column": profile.name, "unit": time.unit})
            self.doubts.append(f"{profile.name} holds whole numbers; they were read as {time.unit} since 1970.")
        elif time.formats:
            formats = time.formats[0] if len(time.formats) == 1 else list(time.formats)
            self.take(table, column, profile, {"column": profile.name, "format": formats})
            self._day_or_month(profile)
        else:
            self.take(table, column, profile)
        if time.share < 1:
            self.doubts.append(f"{1 - time.share:.1%} of {profile.name} could not be read as a time.")
        if not time.has_zone and not time.unit:
            self.doubts.append(f"{profile.name} says no offset from UTC; it is read in the shop's time_zone.")

    def _day_or_month(self, profile: Profile) -> None:
        time = profile.time
        if time is None or not time.n_unclear:
            return
        order = "day/month" if time.formats[0].startswith("%d") else "month/day"
        if time.example:
            why = f"read as {order} because {time.example} occurs"
        else:
            why = f"read as {order}, but no value decides it: no day above the twelfth occurs"
        if len(time.formats) > 1:
            why += f"; other values are written {', '.join(time.formats[1:])}, so look closely"
        self.doubts.append(f"{profile.name}: {time.n_unclear:.0%} of days could be month or day; {why}.")

    def _amounts(self) -> None:
        quantity, paid, price = (
            self.best(*role) for role in (("events", "quantity"), ("events", "paid"), ("items", "price"))
        )
        is_signed = any(profile and profile.share_negative for profile in (quantity, paid))
        if quantity:
            self.take("events", "quantity", quantity, _from(quantity, is_signed))
        if paid:
            self._money("paid", paid, _from(paid, is_signed))
            if not re.search("paid|total|line|实付|支付|总", paid.name.lower()):
                self.doubts.append(f"{paid.name} was read as what was paid for the whole line, not for one unit.")
        elif price and quantity:
            factors: Lines = {"product": [quantity.name, price.name]}
            self._money("paid", price, factors | ({"absolute": True} if is_signed else {}))
            self.doubts.append(f"What was paid is not given; it was taken as {quantity.name} × {price.name}.")
        elif price:
            self._money("paid", price, price.name)
            self.doubts.append(f"{price.name} was read as what was paid: no column says how many units were bought.")
        for column in ("discount", "coupon"):
            if profile := self.best("events", column):
                self._money(column, profile, profile.name)
        if currency := self.best("events", "currency"):
            self.take("events", "currency", currency)
            if currency.n_unique > 1:
                codes = ", ".join(sorted(currency.counts))
                self.doubts.append(
                    f"{currency.name} names several currencies ({codes}): give their rates in [shop.rates]."
                )

    def _money(self, column: str, profile: Profile, value: object) -> None:
        self.take("events", column, profile, value)
        if not profile.is_number:
            self.doubts.append(f"{profile.name} holds signs beside its numbers, which cannot be read as amounts.")

    def _kind(self) -> None:
        kind = self.best("events", "kind")
        if kind:
            values = {value: meant for value in sorted(kind.counts) if (meant := kind_of(value))}
            self.take("events", "kind", kind, {"column": kind.name, "values": values})
            unknown = [value for value in sorted(kind.counts) if value not in values]
            if unknown:
                self.doubts.append(
                    f"{kind.name} has values that mean no known kind of event ({', '.join(unknown)}); their rows will "
                    "go to quarantine unless you map them to view, cart, order or refund."
                )
            if "paid" not in self.sections["events"] and set(values.values()) & {"order", "refund"}:
                self.doubts.append("No column says what was paid, and an order must say it.")
            return
        if self._cancellations():
            return
        self.sections["events"]["kind"] = {"constant": "order"}
        self.doubts.append("No column says what kind of event a row is; every row is read as an order.")
        if "paid" not in self.sections["events"]:
            self._ask("events", "paid")
        self._unmarked_returns()

    def _cancellations(self) -> bool:
        """Whether a letter before the order's number marks what was taken back."""
        order, quantity = self.roles.get(("events", "order_id")), self.roles.get(("events", "quantity"))
        if not order or not quantity:
            return False
        column, amount = order[0].name, quantity[0].name
        rows = self.seen.frame.select(
            pl.col(column).cast(pl.String).str.extract(r"^([A-Za-z]+)-?\d+$").alias("mark"),
            (pl.col(amount).cast(pl.Float64, strict=False) < 0).alias("is_negative"),
        )
        marked = rows.drop_nulls("mark")
        share = marked.height / max(1, rows.height)
        by_mark = marked.group_by("mark").agg(pl.len(), pl.col("is_negative").mean()).sort("len", descending=True)
        refunds = [mark for mark, _, negative in by_mark.iter_rows() if (negative or 0) >= MOST]
        if not refunds or share > 0.5:
            return False
        value = {"column": column, "starts_with": dict.fromkeys(refunds, "refund"), "otherwise": "order"}
        self.sections["events"]["kind"] = value
        self.clean.setdefault("events", {})["returns"] = "match"
        marks = " and ".join(refunds)
        n_refunds = marked.filter(pl.col("mark").is_in(refunds)).height
        self.doubts.append(
            f"{column} begins with {marks} in {n_refunds / rows.height:.1%} of rows, nearly all of negative {amount}; "
            "they were read as cancellations and are matched to their orders."
        )
        for mark, n_rows, _ in by_mark.filter(~pl.col("mark").is_in(refunds)).iter_rows():
            self.doubts.append(f"{column} begins with {mark} in {n_rows} sampled rows; they are read as orders.")
        n_unmarked = rows.filter(pl.col("mark").is_null() & pl.col("is_negative")).height
        if n_unmarked:
            self.doubts.append(
                f"{n_unmarked} sampled rows of negative {amount} bear no mark; they may be stock corrections, and are "
                "read as orders of the positive number."
            )
        return True

    def _unmarked_returns(self) -> None:
        events = self.sections["events"]
        for column in ("quantity", "paid"):
            profile = self.best("events", column)
            if profile and profile.share_negative and isinstance(events.get(column), dict):
                events[column] = profile.name
                self.doubts.append(
                    f"{profile.share_negative:.1%} of {profile.name} are negative and nothing says why; a negative "
                    "value is impossible for an order and will go to quarantine."
                )

    # the other tables

    def _items(self) -> None:
        item = self.roles.get(("events", "item_id"), [None])[0]
        found = {column: self.roles[table, column][0] for table, column in self.roles if table == "items"}
        if self.sections.get("reviews"):
            found.pop("title", None)
        if item is None or not found:
            return
        self.take("items", "item_id", item)
        for column in found:
            profile = self.best("items", column)
            assert profile is not None
            self.take("items", column, profile)
        self._varying(item, found)

    def _varying(self, item: Profile, found: Mapping[str, Profile]) -> None:
        for column, profile in found.items():
            per_item = (
                self.seen.frame.drop_nulls([item.name, profile.name])
                .group_by(item.name)
                .agg(pl.col(profile.name).n_unique())
            )
            varying = per_item.filter(pl.col(profile.name) > 1).height / max(1, per_item.height)
            if varying > 0.01:
                self.doubts.append(
                    f"{profile.name} differs between rows of {varying:.0%} of items; the first becomes the {column}."
                )

    def _shoppers(self) -> None:
        shopper = self.roles.get(("events", "shopper_id"), [None])[0]
        found = [column for table, column in self.roles if table == "shoppers"]
        if shopper is None or not found:
            return
        self.take("shoppers", "shopper_id", shopper)
        for column in found:
            profile = self.best("shoppers", column)
            assert profile is not None
            if column == "signed_up":
                self._time("shoppers", column, profile)
            else:
                self.take("shoppers", column, profile)
            if column == "age_band" and profile.is_number:
                self.doubts.append(f"{profile.name} is an age in years, not a band; it is kept as it is written.")

    def _reviews(self) -> None:
        for column in ("text", "rating", "title"):
            if profile := self.best("reviews", column):
                self.take("reviews", column, profile)
        for column in ("shopper_id", "item_id"):
            if profile := self.best("events", column):
                self.take("reviews", column, profile)
        if time := self.best("events", "time"):
            self._time("reviews", "time", time)
        review = self.best("reviews", "review_id") or _numbering(self.profiles)
        if review:
            self.take("reviews", "review_id", review)
            if review.name == "":
                self.doubts.append(
                    "The first column has no name and numbers the rows; it was taken as the review's id."
                )
        else:
            self._ask("reviews", "review_id")
        if not self.roles.get(("events", "item_id")):
            self.doubts.append("No column says which item a review is about.")


def _from(profile: Profile, is_signed: bool) -> object:
    return {"column": profile.name, "absolute": True} if is_signed else profile.name


def _numbering(profiles: Sequence[Profile]) -> Profile | None:
    """A column of as many different whole numbers as there are rows."""
    return next(
        (each for each in profiles if each.is_whole and each.n_unique == len(each.values) and not each.n_missing), None
    )
