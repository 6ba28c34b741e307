"""Stored bytes in, blocks of plain UTF-8 text out: unpacked, decoded, and watched for what would fill a machine.

delimited.py and documents.py read through it; FileContent is the Content of a file on disk, s3.py has its own.
"""

import codecs
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from training.sources.reading import Broken, Content, Interrupted
from training.sources.tables import InvalidTable

BLOCK = 16 << 20
# Of packed bytes at a time: little enough that no piece unpacks to what would fill memory.
PIECE = 4 << 10
# Text packs to a tenth; what unpacks to far more beyond this size is a file made to fill a disk.
BOMB_BYTES, BOMB_RATIO = 32 << 20, 250
PACKED = {".gz": "gzip", ".zst": "zstd"}
# Ordered: a longer mark begins with the bytes of a shorter one.
MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_UNREADABLE = "stratagem-unreadable"


@dataclass(frozen=True)
class FileContent:
    """A file on disk."""

    path: Path
    name: str

    @property
    def n_bytes(self) -> int:
        """Size on disk."""
        return self.path.stat().st_size

    def digest(self) -> str:
        """Hash of all bytes."""
        # Processors do SHA-256 in hardware: 1.8 GB/s against 0.7 for BLAKE2.
        digest = hashlib.sha256()
        with self.path.open("rb") as content:
            while block := content.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def open(self) -> BinaryIO:
        """Open it at its first byte."""
        return self.path.open("rb")


class _Counted:
    """A file that says how many bytes were read from it; all that unpackers ask of one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.n_bytes = 0

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.n_bytes += len(block)
        return block


@dataclass(frozen=True)
class Block:
    """Some text.

    text     UTF-8 where the source was read in the right encoding; what it could not decode is no UTF-8 here either
    n_bytes  stored bytes read so far
    """

    text: bytes
    n_bytes: int


def blocks(content: Content, encoding: str | None) -> Iterator[Block]:
    """Return the content's text in blocks; a byte-order mark is obeyed and taken away.

    encoding  as Python names it; None: UTF-8, or what the byte-order mark says
    raises    Interrupted  where unpacking fails or swells, after all that came before it
    """
    with content.open() as file:
        counted = _Counted(file)
        decoder = None
        for n, block in enumerate(_unpacked(content.name, counted)):
            if n == 0:
                marked = next(((mark, name) for mark, name in MARKS if block.startswith(mark)), None)
                if marked:
                    block, encoding = block[len(marked[0]) :], marked[1]
                if encoding and codecs.lookup(encoding).name != "utf-8":
                    decoder = codecs.getincrementaldecoder(encoding)(errors=_UNREADABLE)
            if decoder:
                block = decoder.decode(block).encode("utf-8", "surrogatepass")
            yield Block(block, counted.n_bytes)
        if decoder:
            yield Block(decoder.decode(b"", final=True).encode("utf-8", "surrogatepass"), counted.n_bytes)


def _unpacked(name: str, file: _Counted) -> Iterator[bytes]:
    packing = next((packing for suffix, packing in PACKED.items() if name.endswith(suffix)), None)
    n_bytes = 0
    try:
        for block in _joined(_members(file, packing)) if packing else iter(lambda: file.read(BLOCK), b""):
            yield block
            n_bytes += len(block)
            if packing and n_bytes > BOMB_BYTES and n_bytes > BOMB_RATIO * file.n_bytes:
                raise Broken(
                    f"it must not unpack to more than {BOMB_RATIO} times "
                    f"its size, got {n_bytes // max(file.n_bytes, 1)} times"
                )
    except OSError as error:
        if n_bytes == 0:
            raise InvalidTable(f"{name} must be readable, got {error.strerror or error}") from error
        raise Interrupted(error.strerror or str(error)) from error


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks out of pieces; what came before an error comes before it here too."""
    held: list[bytes] = []
    n_held = 0
    try:
        for piece in pieces:
            held.append(piece)
            n_held += len(piece)
            if n_held >= BLOCK:
                yield b"".join(held)
                held, n_held = [], 0
    except (Broken, OSError):
        if n_held:
            yield b"".join(held)
        raise
    if n_held:
        yield b"".join(held)


def _members(file: _Counted, packing: str) -> Iterator[bytes]:
    """What the file's members (gzip) or frames (zstd), one behind another, unpack to, up to any damage."""
    member: _Gzip | _Zstd | None = None
    is_first = True
    while piece := file.read(PIECE):
        while piece:
            if member is None:
                # Tapes and some uploads fill what is behind the last member of a gzip with zeros.
                piece = piece if is_first or packing != "gzip" else piece.lstrip(b"\0")
                if not piece:
                    break
                member, is_first = _Gzip() if packing == "gzip" else _Zstd(), False
            try:
                yield member.unpack(piece)
            except (zlib.error, zstandard.ZstdError) as error:
                yield member.salvaged(piece)
                raise Broken(f"it must be whole {packing}, got: {error}") from error
            piece = member.rest
            member = None if member.is_over else member
    if member is not None:
        raise Broken(f"it must be whole {packing}, got: an end in the middle of it")


class _Gzip:
    """One member of a gzip."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._before = self._inflate

    @property
    def is_over(self) -> bool:
        return self._inflate.eof

    @property
    def rest(self) -> bytes:
        return self._inflate.unused_data

    def unpack(self, piece: bytes) -> bytes:
        self._before = self._inflate.copy()
        return self._inflate.decompress(piece)

    def salvaged(self, piece: bytes) -> bytes:
        """What stands before the damage in a piece that could not be unpacked: the call that fails gives nothing."""
        text: list[bytes] = []
        with suppress(zlib.error):
            text.extend(self._before.decompress(bytes((byte,))) for byte in piece)
        return b"".join(text)


class _Zstd:
    """One frame of a zstd."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()

    @property
    def is_over(self) -> bool:
        return self._frame.eof

    @property
    def rest(self) -> bytes:
        return self._frame.unused_data

    def unpack(self, piece: bytes) -> bytes:
        return self._frame.decompress(piece)

    def salvaged(self, piece: bytes) -> bytes:  # noqa: ARG002 - as _Gzip's
        """Nothing: a block of zstd is there as a whole or not at all, and a piece is smaller than most blocks."""
        return b""


def likely_encoding(text: bytes) -> str | None:
    """Return the encoding that bytes which are not UTF-8 look like, as `encoding` in shop.toml would name it.

    text  of one record
    """
    for encoding, low, high in (("gb18030", 0x4E00, 0x9FFF), ("cp1251", 0x0410, 0x044F), ("cp1252", 0xC0, 0x24F)):
        try:
            beyond = [letter for letter in text.decode(encoding) if ord(letter) >= 0x80]
        except UnicodeDecodeError:
            continue
        # A wrong guess scatters over signs and rare letters; the right one stays among the letters of its language.
        n_letters = sum(low <= ord(letter) <= high for letter in beyond)
        if beyond and n_letters * 5 >= len(beyond) * 4 and (encoding != "cp1251" or n_letters >= 4):
            return encoding
    try:
        text.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return "cp1252"


def _unreadable(error: UnicodeError) -> tuple[str, int]:
    """Put a mark that is no UTF-8 in place of what cannot be decoded, so that its record is found and taken out."""
    if isinstance(error, UnicodeDecodeError):
        return "\udc80", error.end
    raise error


codecs.register_error(_UNREADABLE, _unreadable)
