"""Fixtures of the clients' tests: the real gateway that the gateway's own tests use."""

from tests.server.conftest import doors, filled

__all__ = ["doors", "filled"]
