"""What inspection decided in, a shop.toml out, with every doubt as a comment at its head; inspection.py calls it."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence

from training.sources.tables import TABLES

Lines = dict[str, object]
WIDTH = 116
# Tables that one file fills beside others name the same key in many rows.
REPEATING = ("items", "shoppers")


def document(
    shop: Mapping[str, object],
    tables: Mapping[str, Mapping[str, object]],
    clean: Mapping[str, Mapping[str, object]],
    settings: Mapping[str, object],
    doubts: Sequence[str],
) -> str:
    """Return a shop.toml; a column without a value becomes a comment that the owner completes.

    shop      keys of [shop]
    tables    table -> canonical or short name -> a source's column, or what stands in braces; None: unknown
    clean     table -> keys of [table.clean]
    settings  where the source is and how it is written, the same for every table
    doubts    sentences
    """
    head = ["# Proposed by `stratagem inspect`." + " Look at these:" * bool(doubts)]
    for doubt in doubts:
        # TOML takes no control character in a comment, and a name in a file may hold any.
        told = re.sub(r"[\x00-\x1f\x7f]", "\ufffd", doubt)
        head += textwrap.wrap(told, WIDTH, initial_indent="# - ", subsequent_indent="#   ", break_on_hyphens=False)
    parts = [head, ["[shop]", *_pairs(shop)]]
    for name in TABLES:
        if name in tables:
            repeated = {"repeated": "most_frequent"} if name in REPEATING and len(tables) > 1 else {}
            parts.append([f"[{name}]", *_pairs({**settings, **repeated})])
            parts.append([f"[{name}.columns]", *_pairs(tables[name])])
        if clean.get(name):
            parts.append([f"[{name}.clean]", *_pairs(clean[name])])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [f"{key} = {_value(value)}" if value is not None else f'# {key} = "?"' for key, value in values.items()]


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(key))} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    # What JSON escapes, TOML escapes alike, but for the delete character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)
