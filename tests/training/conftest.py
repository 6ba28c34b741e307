"""One little shop for all training tests: ingested, asked and trained once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.shops.generate import write_little_shop
from training.configs import SIGNATURES
from training.dataset import Dataset, dataset_of
from training.export import Answers
from training.fit import TrainReport, train
from training.sources.shop import ingest, read_shop
from training.sources.tables import Shop
from training.staging import onnxruntime_answers


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums in one order: results must not depend on how many cores the tests found."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The little shop's canonical tables; not to be changed."""
    folder = tmp_path_factory.mktemp("shop")
    write_little_shop(folder / "own")
    ingest(folder / "own", folder / "canonical", lambda _: None)
    return folder / "canonical"


@pytest.fixture(scope="session")
def shop(shop_folder: Path) -> Shop:
    """The little shop."""
    return read_shop(shop_folder)


@pytest.fixture(scope="session")
def dataset(shop: Shop) -> Dataset:
    """The little shop, ready to be asked."""
    return dataset_of(shop)


@pytest.fixture(scope="session")
def trained(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainReport]:
    """The folder of quickly trained models, and what training said; not to be changed."""
    into = tmp_path_factory.mktemp("models")
    return into, train(shop_folder, into, lambda _: None, quick=True)


@contextmanager
def onnxruntime_serves(staged: Path, models: Sequence[str]) -> Iterator[Answers]:
    """Stands where cli.py starts a Triton: the staged graphs, answered in process."""
    yield lambda model, inputs: onnxruntime_answers(staged / model, SIGNATURES[model], inputs)
