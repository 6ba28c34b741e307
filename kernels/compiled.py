"""A kernel's entry point, compiled at its first call and kept on disk. Parts of it are `inlined`."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from numba import config, njit

Loop = TypeVar("Loop", bound=Callable[..., object])


def sources_digest(folder: Path) -> str:
    """Return a digest of every Python file directly in a folder.

    folder   of sources
    returns  12 hexadecimal digits, equal only for equal names and contents
    """
    digest = hashlib.sha256()
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def inlined(part: Loop) -> Loop:
    """Return a part of a loop that is compiled into its callers, never on its own.

    part     a function that numba can compile
    returns  same signature; the plain function when NUMBA_DISABLE_JIT is set
    """
    # LLVM alone leaves the families as calls, each handed every slice of the state: an event then costs twice as much
    # (`python -m tests.benchmarks features`).
    return cast(Loop, njit(nogil=True, inline="always")(part))


def entry(loop: Loop, *, parallel: bool = False) -> Loop:
    """Return the loop compiled without the interpreter lock, its machine code cached under a digest of all kernels.

    loop      a function that numba can compile; it and all it calls must be defined in this package
    parallel  whether its `prange` runs on all threads
    returns   same signature; the plain function when NUMBA_DISABLE_JIT is set
    """
    if config.DISABLE_JIT:
        return loop
    dispatcher = njit(nogil=True, parallel=parallel)(loop)
    users_choice = config.CACHE_DIR
    try:
        config.CACHE_DIR = users_choice or str(_CACHE)
        dispatcher.enable_caching()
    except RuntimeError:  # a read-only installation: its sources do not change, so numba's own places are safe
        config.CACHE_DIR = users_choice
        dispatcher.enable_caching()
    finally:
        config.CACHE_DIR = users_choice
    return cast(Loop, dispatcher)


_FOLDER = Path(__file__).parent
# numba compares only the file of the function it kept: an edit to a family that features.py calls would go unseen.
# Test: test_a_change_in_any_kernel_file_changes_the_digest.
_CACHE = _FOLDER / "__pycache__" / f"numba-{sources_digest(_FOLDER)}"
