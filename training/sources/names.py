"""How the names of canonical columns say their unit, and the short forms that a file may use; no imports but tables."""

from training.sources.tables import WHOLE, Column

MICROS = 1_000_000
TIME_SUFFIX, MONEY_SUFFIX = "_s", "_micros"


def short_name(column: Column) -> str | None:
    """Return the other name a file may use: "paid" for paid_micros, "time" for time_s; None if there is none."""
    for suffix in (MONEY_SUFFIX, TIME_SUFFIX):
        if column.dtype == WHOLE and column.name.endswith(suffix):
            return column.name.removesuffix(suffix)
    return None
