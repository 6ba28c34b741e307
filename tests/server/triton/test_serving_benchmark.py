"""The serving benchmark measures whatever graphs a repository holds, through a real Triton and in process."""

from pathlib import Path

import numpy as np
import pytest

from server.triton.process import MODELS
from tests.benchmarks import serving
from tests.benchmarks.serving_quality import HeldOut


def known_rows(repository: Path) -> HeldOut:
    """The inputs that each model's self-test keeps."""
    tensors = {}
    for model in MODELS:
        with np.load(repository / model / "1" / "self_test.npz") as known:
            tensors |= {name.removeprefix("in_"): known[name] for name in known.files if name.startswith("in_")}
    return HeldOut(tensors)


def test_every_graph_variant_and_batch_has_its_figures(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "BATCHES", (1, 300))  # 300 rows are more than Triton takes at once
    measured = serving.measure(True, tmp_path, tiny_repository, held_out=lambda: known_rows(tiny_repository))
    for model in MODELS:
        for variant in ("fp32", "int8", "fp16"):
            assert measured.figures[f"serving_{model}_{variant}_size_mb"] > 0
            for batch in (1, 300):
                for figure in (f"rows_per_s_{batch}", f"p99_ms_{batch}"):
                    assert measured.figures[f"serving_{model}_{variant}_{figure}"] > 0
                    assert measured.rivals[f"serving_{model}_{variant}_onnxruntime_{figure}"] > 0
    assert any(name.endswith("_int8_top20_overlap") for name in measured.figures)
    assert any(name.endswith("_fp16_max_difference") for name in measured.figures)
    with np.load(tmp_path / "serving_samples_ms.npz") as samples:
        assert len(samples.files) == 2 * 3 * 2 * len(MODELS)
    assert (tmp_path / "serving_answers.npz").exists()


def test_a_repository_without_graphs_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model.onnx must exist; `stratagem export` writes it"):
        serving.measure(True, None, tmp_path, held_out=lambda: HeldOut({}))


def test_a_shop_that_was_not_ingested_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="stratagem ingest complete_journey"):
        serving.held_out_of(tmp_path / "shop")
