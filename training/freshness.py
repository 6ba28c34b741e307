"""Whether what was built still stands for what it was built from: inputs and our own code, by content.

In: files and a salt. Out: a digest, kept in a stamp file beside what was built. Called by cli.py.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def digest_of(files: Iterable[Path], salt: str) -> str:
    """Name the contents of files, in their order; a missing file counts as an empty one.

    files    contents that matter
    salt     options that matter
    returns  16 hexadecimal digits
    """
    digest = hashlib.sha256(salt.encode())
    for file in files:
        content = file.read_bytes() if file.exists() else b""
        digest.update(f"\0{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def sources_of(*folders: str) -> list[Path]:
    """Our own Python files in some top-level folders, in a stable order."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def is_fresh(stamp: Path, digest: str) -> bool:
    """Whether the stamp file holds this very digest."""
    return stamp.exists() and stamp.read_text() == digest
