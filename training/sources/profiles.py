"""One raw column in, what its values look like out: numbers, times and how they are written, long text, categories.

inspection.py calls it; nothing here looks at the column's name.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import polars as pl

# Days written with the month first and with the day first; any value that fits one and not the other decides.
MONTH_FIRST = ("%m/%d/%Y", "%m-%d-%Y", "%m.%d.%Y", "%m/%d/%y")
DAY_FIRST = ("%d/%m/%Y", "%d-%m-%Y", "%d.%m.%Y", "%d/%m/%y")
WORDED = ("%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%Y年%m月%d日")
DATES = (*DAY_FIRST, *MONTH_FIRST, "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", *WORDED)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S")
ISO = re.compile(r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?( ?([Zz]|[+-]\d{2}:?(\d{2})?))?)?$")
OFFSET = re.compile(r"([Zz]|[+-]\d{2}:?\d{2})$")
# 2000 to 2038: what lies outside is a number that happens to be as long as a time.
EPOCHS = {"s": 1, "ms": 1_000, "us": 1_000_000}
FIRST_S, LAST_S = 946_684_800, 2_145_916_800
NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", re.IGNORECASE)
SYMBOLS = {"£": "GBP", "€": "EUR", "$": "USD", "¥": "CNY", "￥": "CNY", "元": "CNY", "₹": "INR", "₽": "RUB"}
N_VALUES = 3_000
# So many of the values must be of a kind for the column to be of it; the rest is told as a doubt.
MOST = 0.95


@dataclass(frozen=True)
class TimeFormat:
    """How the times of a column are written.

    formats   strptime patterns, to be tried in order; empty: ISO 8601, or a type that is a time already
    unit      of epoch numbers, else None
    has_zone  whether each value says its offset
    share     values that can be read so
    n_unclear, example  days that would also be another day with month and day exchanged; a value that decides
    """

    formats: tuple[str, ...] = ()
    unit: str | None = None
    has_zone: bool = False
    share: float = 1.0
    n_unclear: float = 0.0
    example: str | None = None


class Profile:
    """What the values of one column look like.

    name    the source's
    values  sampled values as text, without the missing ones
    """

    def __init__(self, column: pl.Series) -> None:
        self.name = column.name
        self.dtype = column.dtype
        kept = column.drop_nulls()
        self.n_missing = column.len() - kept.len()
        self.share_missing = self.n_missing / max(1, column.len())
        is_text = kept.dtype == pl.String
        texts = kept if is_text else kept.cast(pl.String, strict=False) if not kept.dtype.is_nested() else kept.head(0)
        self.values: list[str] = [value for value in texts.to_list() if value]
        self.n_unique = len(set(self.values))

    @property
    def is_nested(self) -> bool:
        """Whether a value is a list or an object, which no column of a table takes."""
        return self.dtype.is_nested()

    @cached_property
    def spread(self) -> list[str]:
        """A few thousand values from all places."""
        return self.values[:: max(1, len(self.values) // N_VALUES)]

    @cached_property
    def numbers(self) -> list[float]:
        """The values that are plain numbers."""
        return [float(value) for value in self.values if NUMBER.match(value)]

    @property
    def is_number(self) -> bool:
        """Whether nearly all values are plain numbers."""
        return bool(self.values) and len(self.numbers) >= MOST * len(self.values)

    @property
    def is_whole(self) -> bool:
        """Whether nearly all values are whole numbers, also those written 3.0."""
        return self.is_number and sum(number == int(number) for number in self.numbers) >= MOST * len(self.numbers)

    @cached_property
    def n_decimals(self) -> int:
        """Decimals that most values with a point have."""
        parts = Counter(len(value.partition(".")[2].rstrip("0")) for value in self.spread if NUMBER.match(value))
        return parts.most_common(1)[0][0] if parts else 0

    @property
    def has_decimals(self) -> bool:
        """Whether amounts with a fraction occur."""
        return any(number != int(number) for number in self.numbers)

    @property
    def share_negative(self) -> float:
        """Numbers below zero."""
        return sum(number < 0 for number in self.numbers) / max(1, len(self.numbers))

    @property
    def mean_length(self) -> float:
        """Characters of a value; a Chinese character says as much as a short word."""
        return sum(sum(3 if "\u3400" <= sign <= "\u9fff" else 1 for sign in value) for value in self.spread) / max(
            1, len(self.spread)
        )

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each value occurs."""
        return Counter(self.values)

    @cached_property
    def symbols(self) -> Counter[str]:
        """Currency codes by the signs beside the amounts."""
        return Counter(
            code for value in self.spread for sign, code in SYMBOLS.items() if sign in value and len(value) < 20
        )

    @cached_property
    def time(self) -> TimeFormat | None:
        """How times are written, if the values are times."""
        if self.dtype in (pl.Date,) or isinstance(self.dtype, pl.Datetime):
            return TimeFormat(has_zone=getattr(self.dtype, "time_zone", None) is not None)
        if not self.spread:
            return None
        iso = [value for value in self.spread if ISO.match(value)]
        if len(iso) >= MOST * len(self.spread):
            return TimeFormat(
                has_zone=all(OFFSET.search(value[10:]) for value in iso), share=len(iso) / len(self.spread)
            )
        return self._written() or self._epoch()

    def _epoch(self) -> TimeFormat | None:
        if not self.is_whole:
            return None
        for unit, per_s in EPOCHS.items():
            within = sum(FIRST_S * per_s <= number < LAST_S * per_s for number in self.numbers)
            if within >= MOST * len(self.numbers):
                return TimeFormat(unit=unit, share=within / len(self.numbers))
        return None

    def _written(self) -> TimeFormat | None:
        head = self.spread[:50]
        likely = [day + clock for day in DATES for clock in CLOCKS if any(_read(value, day + clock) for value in head)]
        read = {pattern: [bool(_read(value, pattern)) for value in self.spread] for pattern in likely}
        shares = {pattern: sum(hits) / len(self.spread) for pattern, hits in read.items()}
        chosen: list[str] = []
        left = [True] * len(self.spread)
        for pattern in sorted(likely, key=lambda pattern: -shares[pattern]):
            gained = sum(hit and is_left for hit, is_left in zip(read[pattern], left, strict=True))
            if gained > 0.01 * len(self.spread):
                chosen.append(pattern)
                left = [is_left and not hit for hit, is_left in zip(read[pattern], left, strict=True)]
        share = 1 - sum(left) / len(self.spread)
        if not chosen or share < MOST:
            return None
        other = _exchanged(chosen[0])
        other_hits = read.get(other, [False] * len(self.spread)) if other else [False] * len(self.spread)
        both = [a and b for a, b in zip(read[chosen[0]], other_hits, strict=True)]
        decided = (value for value, a, b in zip(self.spread, read[chosen[0]], both, strict=True) if a and not b)
        return TimeFormat(
            tuple(chosen), share=share, n_unclear=sum(both) / len(self.spread), example=next(decided, None)
        )


def _read(value: str, pattern: str) -> datetime | None:
    try:
        read = datetime.strptime(value, pattern).replace(tzinfo=UTC)
    except ValueError:
        return None
    return read if 1970 <= read.year <= 2100 else None


def _exchanged(pattern: str) -> str | None:
    """The pattern with month and day exchanged, if it is one that can be mistaken."""
    for day_first, month_first in zip(DAY_FIRST, MONTH_FIRST, strict=True):
        for one, other in ((day_first, month_first), (month_first, day_first)):
            if pattern.startswith(one):
                return other + pattern.removeprefix(one)
    return None


def profiles_of(frame: pl.DataFrame) -> Sequence[Profile]:
    """Return a profile of each column, in order."""
    return [Profile(frame[name]) for name in frame.columns]
