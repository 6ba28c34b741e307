"""Every column of the feature tables: name, unit, type, meaning, as of when, fitted on what, computed where.

In: the kernels' own lists. Out: COLUMNS by table. training/features/assembly.py writes them to features.json,
training/features/page.py to docs/features.md; a test compares them with the tables.
"""

from dataclasses import dataclass

from kernels.behaviour import LENGTH
from kernels.family import Feature
from kernels.features import FEATURES
from kernels.item_tags import ITEM_TAGS
from kernels.tag_limits import TAGS
from training.features.attributes import ITEM_NAMES, SHOPPER_BANDS, SHOPPER_NAMES
from training.features.frames import COUNTED, DECAY_DAYS, WORDS
from training.risk import KEYS
from training.text.export import MODEL_OF, OUTPUTS
from training.text.tags import COARSE
from training.text.vectors import WIDTH

BEFORE_QUERY = "just before at_s"
AFTER_EVENT = "with this event"
BEFORE_EVENT = "just before this event"
DECLARED = "as declared"
TRAINING = "training window"
ITSELF = "its own text"


@dataclass(frozen=True)
class Column:
    """One column of a feature table.

    dtype    as polars writes it
    as_of    the last moment that it knows of
    fitted   on what its limits or codes were fitted; empty: nothing is fitted
    file     that computes it
    """

    name: str
    unit: str
    dtype: str
    meaning: str
    as_of: str
    file: str
    fitted: str = ""


def _array(dtype: str, width: int) -> str:
    return dtype if width == 1 else f"Array({dtype}, shape=({width},))"


def _feature(feature: Feature, fitted: str = "") -> Column:
    dtype = _array("Float32" if feature.dtype == "float32" else "Int32", feature.width)
    file = f"kernels/{feature.kernel}.py"
    return Column(feature.name, feature.unit, dtype, feature.meaning, BEFORE_QUERY, file, fitted)


def _tag(tag: Feature) -> Column:
    if tag.name in WORDS:
        words = ", ".join(word for word in WORDS[tag.name] if word)
        return Column(tag.name, words, "String", tag.meaning, BEFORE_QUERY, "kernels/tags.py", TRAINING)
    if tag.name == "affinity_slot":
        meaning = f"{tag.meaning}, largest lift first; as many as affinity_lift is not NaN"
        return Column("affinity_category", "name", "List(String)", meaning, BEFORE_QUERY, "kernels/tags.py", TRAINING)
    return _feature(tag, TRAINING)


_AT_S = Column(
    "at_s", "seconds since 1970 UTC", "Int64", "the moment of the query", "", "training/features/assembly.py"
)
_ATTRIBUTES = "training/features/attributes.py"


def _code(name: str, order: str) -> Column:
    meaning = f"{name} in the order of {order}; 0 is a value the training window did not have, null is missing"
    return Column(f"{name}_code", "code", "Int32", meaning, DECLARED, _ATTRIBUTES, TRAINING)


def _id(name: str, meaning: str) -> Column:
    return Column(name, "id", "String", meaning, "", "training/sources/tables.py")


SHOPPERS = (
    _id("shopper_id", "who"),
    _AT_S,
    *(_feature(feature) for feature in FEATURES),
    *(_tag(tag) for tag in TAGS),
    *(_code(name, "its range") for name in SHOPPER_BANDS),
    *(_code(name, "its name") for name in SHOPPER_NAMES),
    *(
        Column(
            f"{name}_value", "as declared", "Float32", f"middle of {name}, or its only end; NaN if it is no range",
            DECLARED, _ATTRIBUTES,
        )
        for name in SHOPPER_BANDS
    ),
    Column("signed_up_days", "days", "Float32", "since the sign-up; NaN if unknown", BEFORE_QUERY, _ATTRIBUTES),
)  # fmt: skip


def _text(name: str, unit: str, dtype: str, meaning: str, fitted: str = "") -> Column:
    return Column(name, unit, dtype, meaning, ITSELF, "training/text/features.py", fitted)


TEXT = (
    _text("language", "en, zh or other", "String", "the language that most of it is in"),
    _text(
        "normal_text", "text", "String", "one width and case, no markup, placeholders for links, mail, numbers, emoji"
    ),
    _text("n_tokens", "tokens", "Int32", "words and placeholders"),
    _text("n_placeholders", "tokens", "Int32", "placeholders among them"),
    _text("n_stop_words", "tokens", "Int32", "words that say little among them"),
    _text("stop_word_share", "share", "Float32", "of stop words among tokens; 0 without tokens"),
    *(_text(f"n_tagged_{name}", "tokens", "Int32", f"words tagged {name}") for name in COARSE),
    _text("word_ngram_bucket", "bucket", "List(Int32)", "hashed words and pairs of words"),
    _text("word_ngram_count", "occurrences", "List(Int32)", "how often each bucket of word_ngram_bucket"),
    _text("character_ngram_bucket", "bucket", "List(Int32)", "hashed runs of characters"),
    _text("character_ngram_count", "occurrences", "List(Int32)", "how often each bucket of character_ngram_bucket"),
    _text("word_vector", "none", _array("Float32", WIDTH), "pooled vectors of its words; 0 without any", TRAINING),
    *(
        _text(model, "none", _array("Float32", OUTPUTS[language].width), f"sentence embedding; null if not {language}")
        for language, model in MODEL_OF.items()
    ),
)

ITEMS = (
    _id("item_id", "the product"),
    *(_code(name, "its name") for name in ITEM_NAMES),
    Column("price", "currency units", "Float32", "of one unit; NaN if unknown", DECLARED, _ATTRIBUTES),
    _AT_S,
    Column("item_index", "index", "Int32", "in the vocabulary; 0 is outside", "", "training/vocabulary.py", TRAINING),
    *(_feature(tag, TRAINING if tag.name == "price_band" else "") for tag in ITEM_TAGS),
    *TEXT,
)  # fmt: skip

REVIEWS = (
    _id("review_id", "the review"),
    Column("time_s", "seconds since 1970 UTC", "Int64", "when it was written", "", "training/sources/tables.py"),
    *TEXT,
)


def _day(name: str, unit: str, dtype: str, meaning: str) -> Column:
    return Column(name, unit, dtype, f"{meaning}, in the shop's own days", AFTER_EVENT, "kernels/calendar_days.py")


def _visit(name: str, unit: str, meaning: str) -> Column:
    return Column(name, unit, "Int32", meaning, AFTER_EVENT, "kernels/visits.py")


def _running(name: str, unit: str, dtype: str, meaning: str, file: str, fitted: str = "") -> Column:
    return Column(name, unit, dtype, meaning, AFTER_EVENT, f"kernels/{file}.py", fitted)


def _velocity(name: str, unit: str, meaning: str) -> Column:
    return Column(name, unit, "Float64", meaning, BEFORE_EVENT, "kernels/velocity.py")


def _of_key(key: str) -> tuple[Column, ...]:
    """Columns of one kind of key, in the order of training.risk."""
    windows = tuple(
        column
        for window in ("1h", "24h", "7d", "30d")
        for column in (
            _velocity(f"n_{key}_events_{window}", "events", f"of the {key} less than {window} ago; NaN without one"),
            _velocity(f"{key}_spend_{window}_micros", "micros", f"order lines of the {key} less than {window} ago"),
        )
    )
    seen = () if key == "shopper" else (
        _velocity(f"n_{key}_shoppers", "shoppers", f"different ones seen on the {key}"),
    )  # fmt: skip
    return (*windows, *seen, _velocity(f"{key}_idle_s", "seconds", f"since the {key}'s event before; NaN at its first"))


EVENTS = (
    _id("shopper_id", "who"),
    Column("time_s", "seconds since 1970 UTC", "Int64", "when", "", "training/sources/tables.py"),
    _id("kind", "what was done: view, cart, order or refund"),
    _id("item_id", "with which item"),
    _id("order_id", "which order the line belongs to"),
    _day("hour", "hour", "Int8", "0 to 23"),
    _day("weekday", "day", "Int8", "0 is Monday"),
    _day("is_weekend", "claim", "Boolean", "Saturday or Sunday"),
    _day("is_holiday", "claim", "Boolean", "a public holiday or one of the shop's"),
    _day("days_since_payday", "days", "Int8", "0 on a payday, -1 where there are none"),
    _visit("session_number", "sessions", "which visit of the shopper it belongs to, from 1"),
    _visit("session_position", "events", "events in the visit so far"),
    _visit("session_length_s", "seconds", "since the visit's first event"),
    _visit("session_views", "events", "views in the visit so far"),
    _visit("session_carts", "events", "cart changes in the visit so far"),
    _visit("session_orders", "events", "order lines in the visit so far"),
    _running("gap_s", "seconds", "Float32", "since the shopper's event before; NaN at the first", "streams"),
    *(_running(f"n_{name}", "events", "Int32", f"{name.replace('_', ' ')} so far", "streams") for name in COUNTED),
    _running("spend_so_far", "currency units", "Float64", "order lines less refunds", "streams"),
    _running("line_spend_mean_so_far", "currency units", "Float64", "of an order line; NaN before any", "moments"),
    _running("line_spend_std_so_far", "currency units", "Float64", "of an order line; NaN before any", "moments"),
    _running("price_band", "band", "Int8", "fifth of its category's prices; 0 if unknown", "streams", TRAINING),
    *(
        column
        for days in DECAY_DAYS
        for column in (
            _running(f"events_so_far_hl{days}d", "events", "Float32", f"halved every {days} days", "decays"),
            _running(f"spend_so_far_hl{days}d", "currency units", "Float32", f"halved every {days} days", "decays"),
        )
    ),
    *(column for key in KEYS.values() for column in _of_key(key)),
    _velocity("since_sign_up_s", "seconds", "from the shopper's sign-up to the event; NaN if unknown"),
)  # fmt: skip


def _last(name: str, unit: str, dtype: str, meaning: str, fitted: str = "") -> Column:
    told = f"{meaning}, newest last, zeros first where there are fewer"
    return Column(name, unit, _array(dtype, LENGTH), told, BEFORE_QUERY, "kernels/behaviour.py", fitted)


SEQUENCES = (
    _id("shopper_id", "who"),
    _AT_S,
    _last("item", "index", "Int32", "vocabulary index of the last events' items", TRAINING),
    _last("kind", "code of kernels.ledger", "Int8", "their kinds"),
    _last("gap", "bucket", "Int8", "logarithm of the seconds since the event before"),
    _last("band", "band", "Int8", "price bands of the items", TRAINING),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "shoppers": SHOPPERS,
    "items": ITEMS,
    "events": EVENTS,
    "sequences": SEQUENCES,
    "reviews": REVIEWS,
}
WHAT = {
    "shoppers": "One row per shopper known at the moment of the query.",
    "items": "One row per item of the shop, at the moment of the query.",
    "events": "One row per event before the moment of the query.",
    "sequences": f"One row per shopper: the last {LENGTH} events, for models of sequences.",
    "reviews": "One row per review.",
}
