"""A shop's own files in, canonical tables out; shop.ingest calls it."""

from collections.abc import Callable
from pathlib import Path

from training.sources.tables import InvalidTable, Shop


def data_files(folder: Path) -> list[Path]:
    """The table files of the folder."""
    raise InvalidTable(f"source must be complete_journey, got {str(folder)!r}")


def read(folder: Path, progress: Callable[[str], None], notes: list[str]) -> Shop:
    """Return the folder's tables."""
    raise InvalidTable(f"source must be complete_journey, got {str(folder)!r}, {progress}, {notes}")
