"""A file, s3:// address or database in, a proposed shop.toml with every doubt about it out: `stratagem inspect`.

What names and values agree on is proposed as it is; what they leave open is proposed with a sentence; what nothing says
is written as a comment for the owner to fill in.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.sources.drafting import Draft
from training.sources.profiles import profiles_of
from training.sources.proposing import Lines, document
from training.sources.roles import roles_of
from training.sources.sampling import sample
from training.sources.unnamed import guessed_roles

# By the country most rows name, or the language of the column names: currency, time zone, country.
PLACES: Mapping[str, tuple[str, str, str]] = {
    "united kingdom": ("GBP", "Europe/London", "GB"),
    "germany": ("EUR", "Europe/Berlin", "DE"),
    "france": ("EUR", "Europe/Paris", "FR"),
    "spain": ("EUR", "Europe/Madrid", "ES"),
    "italy": ("EUR", "Europe/Rome", "IT"),
    "china": ("CNY", "Asia/Shanghai", "CN"),
    "中国": ("CNY", "Asia/Shanghai", "CN"),
}
# More names than this hide what matters.
N_NAMED = 12
MONEY = ("paid", "price", "cost", "discount", "coupon")


@dataclass(frozen=True)
class Proposal:
    """A shop.toml to begin with.

    text       TOML; ready to use if is_usable
    doubts     what the owner should look at, a sentence each
    tables     canonical tables that it fills
    is_usable  whether ingest takes it as it stands; otherwise its comments say what is missing
    """

    text: str
    doubts: tuple[str, ...]
    tables: tuple[str, ...]
    is_usable: bool


def propose(source: str | Path) -> Proposal:
    """Look at some of a source's rows and say how a shop could read it.

    source  a file, a glob, an s3:// address, or a database's address followed by # and a table
    raises  InvalidTable  in one sentence if it cannot be read, or is no table
    """
    seen = sample(str(source))
    profiles = profiles_of(seen.frame)
    is_named = "header" not in seen.settings
    roles = roles_of(profiles) if is_named else guessed_roles(profiles)
    draft = Draft(seen, profiles, roles, list(seen.doubts))
    if not is_named:
        draft.doubts.append("Which column is which was guessed from the values alone: check every line.")
    draft.fill()
    shop = _shop(draft)
    _say_what_is_missing(draft)
    return Proposal(
        document(shop, draft.sections, draft.clean, seen.settings, draft.doubts),
        tuple(draft.doubts),
        tuple(draft.sections),
        not draft.is_open and "events" in draft.sections,
    )


def _shop(draft: Draft) -> Lines:
    """The keys of [shop], as far as country, symbols and language suggest them."""
    name = Path(re.sub(r"[#?].*$", "", draft.seen.name)).name.split(".")[0] or "shop"
    country = next((each for each in draft.profiles if re.search("country|国家", each.name.lower())), None)
    named, n_rows = country.counts.most_common(1)[0] if country and country.counts else ("", 0)
    place = PLACES.get(named.lower())
    if place and country:
        share = n_rows / len(country.values)
        draft.doubts.append(
            f"{country.name} is {named} in {share:.0%} of rows, so {place[0]}, the time zone {place[1]} and its "
            "holidays were assumed; nothing says so."
        )
        return {"name": name, "currency_code": place[0], "time_zone": place[1], "country": place[2]}
    is_chinese = any("\u4e00" <= sign <= "\u9fff" for each in draft.profiles for sign in each.name)
    currency_code, zone = ("CNY", "Asia/Shanghai") if is_chinese else ("USD", "UTC")
    said = f"{zone} was assumed as time zone"
    symbols = sum((each.symbols for each in draft.profiles if not each.is_number), Counter())
    if symbols:
        currency_code = symbols.most_common(1)[0][0]
    elif any(column in MONEY for section in draft.sections.values() for column in section):
        said = f"{currency_code} was assumed as currency and {said}"
    draft.doubts.append(
        f"{said}, because {'the column names are Chinese' if is_chinese else 'nothing says otherwise'}."
    )
    return {"name": name, "currency_code": currency_code, "time_zone": zone}


def _say_what_is_missing(draft: Draft) -> None:
    nested = [each.name for each in draft.profiles if each.is_nested]
    left = [each.name or "the column without a name" for each in draft.profiles if each.name not in draft.used]
    if nested:
        draft.doubts.append(f"No column of a table takes lists or objects, as they stand in {', '.join(nested)}.")
    if left:
        more = f" and {len(left) - N_NAMED} more" if len(left) > N_NAMED else ""
        draft.doubts.append(f"Left out, because no table has a place for them: {', '.join(left[:N_NAMED])}{more}.")
    if "events" not in draft.sections:
        draft.doubts.append(
            "There are no events in it, and no shop can be read without: add [events] from another file."
        )
