"""Processes as the kernel sees them: whose children they are, and when they end."""

import os
import select
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Children of `pid`, their children, and so on; whoever ends meanwhile has none."""
    children: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            children += [int(child) for child in file.read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def shared_memory(pid: int) -> set[Path]:
    """Named shared memory that `pid` has mapped."""
    maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {Path(fields[5]) for fields in maps if fields[5:] and fields[5].startswith("/dev/shm/")}


def ends_within(pids: list[int], within_s: float) -> bool:
    """Whether every process ends in time. No process may be reaped meanwhile: a number could be another's."""
    open_files = []
    for pid in pids:
        try:
            open_files.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    try:
        return all(select.select([file], [], [], within_s)[0] for file in open_files)
    finally:
        for file in open_files:
            os.close(file)
