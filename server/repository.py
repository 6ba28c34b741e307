"""Opens a model repository: every file as its manifest says, or one sentence saying which is not.

In: a folder with manifest.json, catalogue.json, items.parquet, tags.json and the models. Out: a frozen Repository.
Called by `python -m server`, by the planner and by `stratagem doctor`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernels.checks import InvalidInput
from kernels.tag_limits import TagLimits
from server.problems import WrongRepository
from server.strategy.catalogue import Catalogue, ChannelName, Items, Lift, Offer

# What every release serves, and what it serves where the shop's data were enough to learn it.
ALWAYS, SOMETIMES = ("encoder", "heads", "predictions"), ("session", "risk_transaction", "risk_review")
ENCODER_GRAPH = "encoder/1/model.onnx"
ITEM_COLUMNS = {
    "item_id": pl.String,
    "title": pl.String,
    "item_index": pl.Int32,
    "category": pl.Int16,
    "price_micros": pl.Int64,
    "is_showable": pl.Boolean,
}


@dataclass(frozen=True)
class Repository:
    """One release of the models and the shop it knows.

    release     hash of the release, 12 hexadecimal digits
    encoder     hash of the encoder's graph: vectors made by another one do not fit
    vocabulary  hash of the item vocabulary: states written under another one do not fit
    served      names of the models that Triton loads
    features    names of the feature columns the models were trained on, in order
    tag_limits  what shoppers' tags are told against; None in a release that was exported without
    """

    folder: Path
    release: str
    encoder: str
    vocabulary: str
    served: tuple[str, ...]
    features: tuple[str, ...]
    catalogue: Catalogue
    tag_limits: TagLimits | None = None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Manifest(_Strict):
    release: str
    features: list[str]
    files: dict[str, str]


class _Offer(_Strict):
    offer_id: str
    campaign_id: str
    arm: str
    offer_group: int
    category: int
    title: str | None = None
    discount_micros: int | None
    starts_s: int
    ends_s: int
    group_share: float = Field(gt=0, le=1)
    usual_prob: float = Field(ge=0, le=1)
    arm_redemptions: float = Field(ge=0)


class _Lift(_Strict):
    lift: float
    lower: float
    upper: float


class _Catalogue(_Strict):
    shop: str
    currency_code: str
    as_of_s: int
    categories: list[str]
    offer_groups: list[str]
    arms: list[str]
    offers: list[_Offer]
    category_spend_micros: list[int]
    ad_slots: list[int]
    placements: dict[ChannelName, _Lift]


Content = TypeVar("Content", bound=_Strict)


def open_repository(folder: Path) -> Repository:
    """Check every hash of a model repository and load what the strategy needs.

    raises  WrongRepository  naming the file, what was expected and what was found
    """
    manifest = _parsed(folder / "manifest.json", _Manifest)
    needed = ("catalogue.json", "items.parquet", ENCODER_GRAPH)
    for name in needed:
        if name not in manifest.files:
            raise WrongRepository(
                f"files of {folder / 'manifest.json'} must name {name}, got {len(manifest.files)} others"
            )
    for name, expected in manifest.files.items():
        _check_hash(folder / name, expected)
    catalogue = _catalogue(folder / "catalogue.json", _items(folder / "items.parquet"))
    vocabulary = manifest.files["items.parquet"][:12]
    limits = _tag_limits(folder / "tags.json") if "tags.json" in manifest.files else None
    encoder = manifest.files[ENCODER_GRAPH][:12]
    served = (*ALWAYS, *(name for name in SOMETIMES if f"{name}/1/model.onnx" in manifest.files))
    features = tuple(manifest.features)
    return Repository(folder, manifest.release, encoder, vocabulary, served, features, catalogue, limits)


def _tag_limits(file: Path) -> TagLimits:
    try:
        return TagLimits.from_json(file.read_bytes())
    except InvalidInput as error:
        raise WrongRepository(f"{file}: {error}") from error


def _check_hash(file: Path, expected: str) -> None:
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise WrongRepository(f"{file} must be as in manifest.json, got: {error.strerror}") from error
    if found != expected:
        raise WrongRepository(f"sha256 of {file} must be {expected}, as in manifest.json, got {found}")


def _parsed(file: Path, content: type[Content]) -> Content:
    try:
        return content.model_validate(orjson.loads(file.read_bytes()))
    except FileNotFoundError as error:
        raise WrongRepository(f"{file} must exist; `stratagem export` writes it") from error
    except orjson.JSONDecodeError as error:
        raise WrongRepository(f"{file} must be JSON, got: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise WrongRepository(f"{field} in {file}: {first['msg'].lower()}") from error


def _items(file: Path) -> Items:
    table = pl.read_parquet(file)
    for name, dtype in ITEM_COLUMNS.items():
        if name not in table.columns:
            raise WrongRepository(f"{file} must have a column {name}, got {', '.join(table.columns)}")
        if table.schema[name] != dtype:
            raise WrongRepository(f"{name} in {file} must be {dtype}, got {table.schema[name]}")
    return Items(
        item_id=table["item_id"].to_list(),
        title=table["title"].fill_null("").to_list(),
        item_index=table["item_index"].fill_null(0).to_numpy(),
        category=table["category"].fill_null(-1).to_numpy(),
        price_micros=table["price_micros"].fill_null(-1).to_numpy(),
        is_showable=table["is_showable"].fill_null(False).to_numpy(),
    )


def _catalogue(file: Path, items: Items) -> Catalogue:
    read = _parsed(file, _Catalogue)
    place = {arm: index for index, arm in enumerate(read.arms)}
    for offer in read.offers:
        if offer.arm not in place:
            raise WrongRepository(
                f"arm must be one of {', '.join(place)}, got {offer.arm!r} (offer {offer.offer_id!r})"
            )
    offers = [
        Offer(
            offer_id=offer.offer_id,
            campaign_id=offer.campaign_id,
            arm=place[offer.arm],
            offer_group=offer.offer_group,
            category=offer.category,
            title=offer.title or "",
            discount_micros=offer.discount_micros,
            starts_s=offer.starts_s,
            ends_s=offer.ends_s,
            group_share=offer.group_share,
            usual_prob=offer.usual_prob,
            arm_redemptions=offer.arm_redemptions,
        )
        for offer in read.offers
    ]
    return Catalogue(
        shop=read.shop,
        currency_code=read.currency_code,
        as_of_s=read.as_of_s,
        categories=tuple(read.categories),
        arms=tuple(read.arms),
        offers=tuple(offers),
        category_spend_micros=np.array(read.category_spend_micros, np.int64),
        placements={channel: Lift(lift.lift, lift.lower, lift.upper) for channel, lift in read.placements.items()},
        ad_slots=np.array(read.ad_slots, np.int64),
        items=items,
    )
