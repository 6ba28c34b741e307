"""A bearer token looked up in a dictionary: the least that a server does who lets only its clients in.

In: scopes by header value. Out: whether a call may pass. Used by every echo.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Headed(Protocol):
    """A call with headers."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """What the client sent."""


class Tokens:
    """Which header values open which scopes; without any, every call is let in."""

    def __init__(self, scopes: Mapping[str, Sequence[str]], scope: str) -> None:
        """Ask for `scope` of every call."""
        self._scopes = {value: frozenset(held) for value, held in scopes.items()}
        self._scope = scope

    def let_in(self, call: Headed) -> bool:
        """Whether the call's token holds the scope."""
        if not self._scopes:
            return True
        for name, value in call.invocation_metadata():
            if name == "authorization":
                return self._scope in self._scopes.get(value, ())
        return False
