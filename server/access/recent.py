"""What was used lately, up to a number: a dictionary that forgets.

In: keys and values. Out: the value of a key used lately.
Used by server/access/gate.py for callers and for their rates.
"""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Remembers every key of the last `most / 2` distinct ones used, and never more than `most`.

    Two generations instead of an exact order: a key used again and again costs one look, moves nothing, takes no lock.
    """

    def __init__(self, most: int) -> None:
        """Remember up to `most` keys, ≥ 2."""
        self._half = most // 2
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """The value last put, or None where it was never put or is forgotten."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Key, value: Value) -> None:
        """Remember a value, in place of the key's last one."""
        with self._lock:
            if key not in self._young and len(self._young) >= self._half:
                self._old, self._young = self._young, {}
            self._young[key] = value

    def __len__(self) -> int:
        """Values held, those of one key in both generations counted twice."""
        return len(self._young) + len(self._old)
