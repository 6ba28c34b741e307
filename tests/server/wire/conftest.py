"""A server for one test."""

from collections.abc import Iterator

import pytest

from tests.server.wire.standing import Serving, listening


@pytest.fixture
def serving() -> Iterator[Serving]:
    """See `listening`."""
    with listening() as opened:
        yield opened
