"""RecommendationService: what the encoder ranks with its reasons, and what follows in anonymous sessions."""

import json
import shutil
from pathlib import Path

import grpc
import pytest
from stratagem.v1 import recommendation_pb2

from server.settings import Settings
from tests.server.doors import Doors, open_doors
from tests.tiny_repository import AS_OF_S


def test_recommendations_are_those_of_the_encoder_with_a_reason_each(doors: Doors) -> None:
    request = recommendation_pb2.RecommendRequest(shopper_id="shopper-3", time_s=AS_OF_S)
    items = doors.recommendation.Recommend(request).items
    assert len(items) == 20
    probs = [item.purchase_prob for item in items]
    assert probs == sorted(probs, reverse=True)
    assert all(item.reason.startswith(f"{item.title}: fits what the shopper looked at") for item in items)
    assert {item.next_prob for item in items} == {0.0}


def test_an_anonymous_session_is_answered_from_its_latest_known_item(doors: Doors) -> None:
    request = recommendation_pb2.RecommendSessionRequest(item_ids=["item-9", "item-50", "never heard of"], limit=3)
    items = doors.recommendation.RecommendSession(request).items
    # The tiny model ranks items by their distance from the latest one.
    assert items[0].item_id == "item-50"
    assert {item.item_id for item in items[1:]} == {"item-49", "item-51"}
    assert items[0].next_prob > items[1].next_prob
    assert items[0].purchase_prob == 0.0
    assert "comes next in sessions like this one" in items[0].reason


def test_a_session_without_a_known_item_is_answered_too(doors: Doors) -> None:
    for item_ids in ([], ["never heard of"]):
        request = recommendation_pb2.RecommendSessionRequest(item_ids=item_ids)
        assert len(doors.recommendation.RecommendSession(request).items) == 20


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"item_ids": [""]}, "item_ids must be set, got ''"),
        ({"item_ids": ["a"] * 1_001}, "n_item_ids must be in [0, 1000], got 1001"),
        ({"limit": 21}, "limit must be in [1, 20], got 21"),
    ],
    ids=["empty id", "too many", "limit"],
)
def test_a_wrong_session_is_refused_in_one_sentence(doors: Doors, request_: dict[str, object], sentence: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        doors.recommendation.RecommendSession(recommendation_pb2.RecommendSessionRequest(**request_))
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, sentence)


def test_a_release_without_a_session_model_says_so(filled: Settings, tiny_triton: str, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    shutil.copytree(filled.repository, folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"] = {name: told for name, told in manifest["files"].items() if not name.startswith("session/")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with open_doors(filled.model_copy(update={"repository": folder}), tiny_triton) as doors:
        with pytest.raises(grpc.RpcError) as refused:
            doors.recommendation.RecommendSession(recommendation_pb2.RecommendSessionRequest())
        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "must hold a model session, got none" in refused.value.details()
