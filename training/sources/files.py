"""What a shop.toml, or a folder of table files, names as its sources: files, S3 objects, databases. shop.py calls it.

A folder without shop.toml holds one file per table, named for it: events.csv, items.jsonl.gz; docs/schema.md says more.
"""

import re
from dataclasses import replace
from pathlib import Path

from training.sources import databases, s3
from training.sources.content import PACKED, FileContent
from training.sources.delimited import Choice, Delimited, Layout
from training.sources.documents import Json, Parquet
from training.sources.mapping import FILE, ShopFile, ShopSection, TableSection
from training.sources.reading import Content, Source
from training.sources.tables import TABLES, InvalidTable

FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet",
}  # fmt: skip
# How the table files of a folder without shop.toml may end.
WILD = re.compile(r"[*?\[]")
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def folder_mapping(folder: Path, currency_code: str) -> ShopFile:
    """Return the mapping of a folder of files in canonical columns.

    folder  may hold other files; they are left alone
    raises  InvalidTable  if it is no folder, lacks a mandatory table or has one twice
    """
    if not folder.is_dir():
        raise InvalidTable(f"source must be complete_journey, a folder of table files or a {FILE}, got {str(folder)!r}")
    sections = {}
    for table in TABLES.values():
        names = [f"{table.name}{ending}{packing}" for ending in ENDINGS for packing in ("", *PACKED)]
        here = [name for name in names if (folder / name).exists()]
        if len(here) > 1:
            raise InvalidTable(f"{table.name} must be one file, got {' and '.join(here)}")
        if not here and table.mandatory:
            choices = ", ".join(f"{table.name}{ending}" for ending in ENDINGS)
            raise InvalidTable(f"{folder} must hold one of {choices}, or a {FILE}, got none")
        if here:
            sections[table.name] = TableSection(source=(here[0],))
    shop = ShopSection(name=folder.resolve().name, currency_code=currency_code)
    return ShopFile(shop=shop, **sections)


def sources_of(table: str, section: TableSection, folder: Path) -> list[Source]:
    """Return what a section reads, in order.

    folder  relative names start there
    raises  InvalidTable  if a name fits nothing, or a file is empty or cannot be opened
    """
    if section.database is not None:
        return [databases.database(section.database, section.query or "", section.relation or "", folder)]
    contents: list[Content] = []
    for name in section.source:
        found: list[Content] = [*s3.stored_objects(name)] if name.startswith(s3.SCHEME) else _files(name, folder)
        if not found:
            raise InvalidTable(f"{table}.source must name files, got none for {name!r}")
        contents += found
    return [_source(content, section) for content in contents]


def choosing(source: Source, choice: Choice) -> Source:
    """Return the source with a word about which columns are worth parsing, if it can make use of one."""
    return replace(source, choice=choice) if isinstance(source, Delimited | Json | Parquet) else source


def _files(name: str, folder: Path) -> list[Content]:
    path = folder / name
    if path.is_dir():
        paths = sorted(each for each in path.iterdir() if _format(each.name) and not each.name.startswith("."))
    elif path.exists() or not WILD.search(name):
        paths = [path]
    else:
        root = Path(path.absolute().anchor)
        paths = sorted(each for each in root.glob(str(path.absolute().relative_to(root))) if each.is_file())
    for each in paths:
        _check_content(each)
    return [FileContent(each, _shown(each, folder)) for each in paths]


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _check_content(path: Path) -> None:
    try:
        with path.open("rb") as content:
            if not content.read(1):
                raise InvalidTable(f"{path.name} must not be empty, got 0 bytes")
    except OSError as error:
        raise InvalidTable(f"{path.name} must be readable, got {error.strerror}") from error


def _format(name: str) -> str | None:
    path = Path(name)
    return FORMATS.get(Path(path.stem).suffix if path.suffix in PACKED else path.suffix)


def _source(content: Content, section: TableSection) -> Source:
    kind = section.format or _format(content.name)
    match kind:
        case "csv" | "tsv":
            usual = "\t" if kind == "tsv" else ","
            separator = None if section.separator == "spaces" else section.separator or usual
            return Delimited(content, Layout(separator, section.header, section.encoding))
        case "json" | "jsonl":
            return Json(content, is_array=kind == "json", encoding=section.encoding)
        case "parquet":
            return Parquet(content)
    raise InvalidTable(f"{content.name} must end in one of {', '.join(FORMATS)}, or say its format in {FILE}")
