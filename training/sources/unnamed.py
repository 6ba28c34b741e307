"""Columns without names in, the roles which their values alone suggest out; inspection.py calls it."""

from collections.abc import Sequence

from training.sources.profiles import Profile

# More units than this in one line are rather a code or an amount.
MOST_UNITS = 1_000


def guessed_roles(profiles: Sequence[Profile]) -> dict[tuple[str, str], list[Profile]]:
    """Return, for each (table, column), the columns that could be it, the likeliest first."""
    times = [each for each in profiles if each.time is not None]
    left = [each for each in profiles if each not in times and each.values]
    amounts = [each for each in left if each.is_number and each.has_decimals]
    counts = [each for each in left if each.is_whole and not each.has_decimals and _counts_units(each)]
    names = [each for each in left if each not in amounts and each not in counts]
    ids = [each for each in names if each.mean_length <= 64 and each.n_unique > 1]
    # Whoever buys again comes again: a column of which every value is another numbers the rows.
    shoppers = [each for each in ids if each.n_unique < len(each.values)]
    texts = [each for each in shoppers if not each.is_number and each.mean_length > 12]
    shoppers = [each for each in shoppers if each not in texts]
    roles = {
        ("events", "shopper_id"): shoppers,
        ("events", "time"): times,
        ("events", "quantity"): counts,
        ("events", "paid"): amounts,
    }
    return {role: found for role, found in roles.items() if found}


def _counts_units(profile: Profile) -> bool:
    is_code = any(value.startswith("0") and len(value) > 1 for value in profile.spread)
    return not is_code and max(map(abs, profile.numbers)) <= MOST_UNITS and profile.n_unique < 0.2 * len(profile.values)
