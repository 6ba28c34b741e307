"""A profile tells tags as training would, and nothing where nothing is known."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from stratagem.v1 import profile_pb2

from kernels.features import features_at, read_states
from kernels.ledger import empty_ledger
from kernels.tag_limits import CHANNELS, LIFECYCLES, SENSITIVITIES, TIERS, tag_columns
from kernels.tags import tags
from server.gateway.shopper_tags import tags_message
from server.problems import WrongRepository
from server.repository import open_repository
from tests.server.doors import Doors
from tests.tiny_repository import AS_OF_S, TAG_LIMITS, write_tiny_repository


def test_a_profile_tells_the_tags_that_training_computes(doors: Doors) -> None:
    told = doors.profile.Get(profile_pb2.GetRequest(shopper_id="shopper-3", time_s=AS_OF_S)).tags
    shopper = doors.gateway.decider.states.shopper("shopper-3")
    assert shopper is not None
    features, _ = read_states(shopper.state[None, :], np.array([AS_OF_S]))
    known = tags(features, np.zeros((1, 2 * len(CHANNELS)), np.float32), TAG_LIMITS)[0]
    expected = dict(zip(tag_columns(), known.tolist(), strict=True))
    assert told.recency_score == expected["recency_score"]
    assert told.frequency_score == expected["frequency_score"]
    assert told.churn_prob == expected["churn_prob"]
    assert told.expected_gap_days == expected["expected_gap_days"]
    assert told.churn_weeks == TAG_LIMITS.churn_weeks
    names = doors.gateway.decider.repository.catalogue.categories
    assert [names.index(affinity.category) for affinity in told.affinities] == [
        expected[f"affinity_slot[{place}]"] for place in range(len(told.affinities))
    ]


def test_nobody_has_no_numbers(tiny_repository: Path) -> None:
    features, _ = features_at(empty_ledger(1), np.zeros(1, np.int64), np.array([AS_OF_S]))
    told = tags_message(features, TAG_LIMITS, open_repository(tiny_repository).catalogue)
    assert told.lifecycle == profile_pb2.LIFECYCLE_PROSPECT
    assert told.tier == profile_pb2.TIER_UNSPECIFIED
    assert not told.affinities
    assert not [field for field in ("churn_prob", "price_position", "expected_gap_days") if told.HasField(field)]


def test_every_tag_word_has_its_number() -> None:
    for enum, words in (
        (profile_pb2.Tier, TIERS), (profile_pb2.PriceSensitivity, SENSITIVITIES), (profile_pb2.Lifecycle, LIFECYCLES)
    ):  # fmt: skip
        named = {name.lower().replace("_", " ") for name in enum.keys()}  # noqa: SIM118 - not a mapping
        assert all(any(name.endswith(word) for name in named) for word in words)


def test_a_release_without_limits_still_opens(tmp_path: Path) -> None:
    write_tiny_repository(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    del manifest["files"]["tags.json"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert open_repository(tmp_path).tag_limits is None


def test_limits_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write_tiny_repository(tmp_path)
    (tmp_path / "tags.json").write_text("{}")
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    manifest["files"]["tags.json"] = hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WrongRepository, match=r"tags.json: tags.json must hold tag limits of this version"):
        open_repository(tmp_path)
