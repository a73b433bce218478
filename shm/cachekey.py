"""shm room: names the compile cache after every source file that takes part in a function.

numba notices a change in the file of a cached function, but not in the functions that it calls or
the constants that it freezes. So each file gets a cache folder of its own, named by a hash over the
file and all it imports, directly or not, within the project or beside a user's strategy. Stale
machine code is then impossible, and a change recompiles only what depends on it.

Imports are found by their text, which takes a tenth of the time of parsing. One that is named only
in a string (importlib) is not seen: a compiled function cannot call across such an import either.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_FROM = re.compile(
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]*(\([^)]*\)|[^\n;]*)", re.MULTILINE
)
_IMPORT = re.compile(r"^[ \t]*import[ \t]+([^\n;]*)", re.MULTILINE)
_COMMENT_OR_BREAK = re.compile(r"#[^\n]*|\\\n")
_NAME = re.compile(r"[(\s]*([\w.]+)")
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


def _listed(names: str) -> Iterator[str]:
    """Yields what `a, b as c` or `(a, b)` imports."""
    for part in names.split(","):
        if found := _NAME.match(part):
            yield found.group(1)


def _beside(path: Path, dots: int, module: str, names: str) -> Iterator[Path]:
    """Yields the files that a relative import of `path` may mean."""
    folder = path.parents[dots - 1].joinpath(*filter(None, module.split(".")))
    for place in (folder, *(folder / name for name in _listed(names))):
        yield from (place.with_suffix(".py"), place / "__init__.py")


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Answers the files of ours that a file imports itself."""
    text = _COMMENT_OR_BREAK.sub(" ", path.read_text(errors="replace"))
    found = {_source_of(name) for names in _IMPORT.findall(text) for name in _listed(names)}
    for dots, module, names in _FROM.findall(text):
        if dots:
            found |= {file for file in _beside(path, len(dots), module, names) if file.is_file()}
            continue
        source = _source_of(module)
        found.add(source)
        if source is not None and source.name == "__init__.py":  # names may be modules of it
            found |= {_source_of(f"{module}.{name}") for name in _listed(names)}
    return tuple(sorted(source for source in found if source is not None))


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

    `TICKRING_CACHE_DIR` overrides the parent (default ~/.cache/tickring). It is made when it is not
    there, 0700: what lies in it is run.

    Raises:
        OSError: in one line, when it cannot be made or written.
    """
    parent = Path(os.environ.get("TICKRING_CACHE_DIR") or Path.home() / ".cache" / "tickring")
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_writable = os.access(parent, os.W_OK)
    except OSError:
        is_writable = False
    if not is_writable:
        raise OSError(
            f"compile cache must be a folder that can be written: path={parent};"
            " set TICKRING_CACHE_DIR to one that can"
        )
    digest = hashlib.sha256(sys.version.encode())
    for source in closure(path):
        digest.update(source.name.encode() + _digest(source))
    return parent / f"{path.stem}-{digest.hexdigest()[:16]}"
