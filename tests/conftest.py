"""What tests of several folders share: a real Triton over a repository in miniature, started once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.triton.environment import Environment, NotPrepared, prepared
from server.triton.process import serving
from tests.requirements import missing
from tests.servers.postgresql import Postgresql, postgresql
from tests.servers.seaweed import Seaweed, seaweed
from tests.tiny_repository import MODELS, write_tiny_repository


@pytest.fixture(scope="session", autouse=True)
def _no_triton_of_the_caller() -> Iterator[None]:
    """Tests start their own Triton, whatever the caller's shell points at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRITON_URL", raising=False)
        yield


@pytest.fixture(scope="session")
def triton_environment() -> Environment:
    """Triton's own environment, the one `make setup` prepares; prepared now where it is missing."""
    try:
        return prepared()
    except (NotPrepared, OSError) as problem:
        missing(f"Triton's environment cannot be prepared: {problem}")
        raise


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """A PostgreSQL whose tables tests add to; each names its own."""
    try:
        with postgresql() as server:
            yield server
    except FileNotFoundError as absent:
        missing(str(absent))


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[Seaweed]:
    """An S3 server with the bucket `shop`; each test has a prefix of its own."""
    try:
        with seaweed("shop") as server:
            yield server
    except FileNotFoundError as absent:
        missing(str(absent))


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the contract's tensors; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "model_repository"
    write_tiny_repository(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_triton(triton_environment: Environment, tiny_repository: Path) -> Iterator[str]:
    """The address of a Triton that serves `tiny_repository`."""
    with serving(tiny_repository, list(MODELS)) as address:
        yield address
