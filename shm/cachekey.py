"""shm room: names the compile cache after every source file that takes part in a function.

numba notices a change in the file of a cached function, but not in the functions that it calls or
the constants that it freezes. So each file gets a cache folder of its own, named by a hash over the
file and all it imports, directly or not, within the project or beside a user's strategy. Stale
machine code is then impossible, and a change recompiles only what depends on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_IMPORT = re.compile(rb"^\s*(?:from|import)\s+([A-Za-z_][\w.]*)", re.MULTILINE)
_FOREIGN = ("site-packages", "dist-packages")
_ROOMS = ("shm", "engine", "config", "workers")


@cache
def _is_ours(path: Path) -> bool:
    """Says whether a file is ours or the user's; of installed packages only the rooms are."""
    for index, part in enumerate(path.parts[:-1]):
        if part in _FOREIGN:
            return path.parts[index + 1] in _ROOMS
    return True


@cache
def _source_of(module: str) -> Path | None:
    """Answers the source file of a module that belongs to us or to the user, else None."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return None
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    return path if _is_ours(path) else None


@cache
def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    names = {name.decode() for name in _IMPORT.findall(path.read_bytes())}
    found = (_source_of(name) for name in sorted(names))
    return tuple(source for source in found if source is not None)


def closure(path: Path) -> list[Path]:
    """Answers `path` and every file of ours that it imports, directly or not, sorted."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(_imports(current))
    return sorted(seen)


@cache
def cache_folder(path: Path) -> Path:
    """Answers the compile cache folder for functions defined in `path`.

    `TICKRING_CACHE_DIR` overrides the parent (default ~/.cache/tickring).
    """
    parent = Path(os.environ.get("TICKRING_CACHE_DIR") or Path.home() / ".cache" / "tickring")
    digest = hashlib.sha256(sys.version.encode())
    for source in closure(path):
        digest.update(source.name.encode() + _digest(source))
    return parent / f"{path.stem}-{digest.hexdigest()[:16]}"
