"""config room: reads a TOML file into `Settings`, or says in one line what is wrong with it.

The file is parsed, converted to frozen records, overlaid with what the command line gave, and
checked by `config.rules` (values) and `config.placement` (processes and cores). The first broken
rule ends it: a `ConfigError` whose text names the file, the key, the rule and the value.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from config import placement, rules
from config.settings import Settings

DEFAULT_PROFILE: Final = Path(__file__).with_name("demo.toml")

_FILE_BYTES_MAX: Final = 1 << 20
_VALUE_CHARACTERS_MAX: Final = 80
_ERROR: Final = re.compile(r"(?P<rule>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"(?P<name>[^.\[\]]+)|\[(?P<index>\d*)(?:\.\.\.)?\]")
_CREDENTIALS: Final = re.compile(r"://[^\s'\"]*@")
_NOUNS: Final = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


class ConfigError(ValueError):
    """A configuration breaks a rule; the text is one line for the operator."""

    is_configuration = True  # a worker that meets it is not started again


def load(path: Path | None, overrides: Mapping[str, object]) -> Settings:
    """Reads and checks a configuration.

    Args:
        path: the TOML file; None means the demo profile shipped with the package.
        overrides: sections and keys as in the file, laid over it; lists replace lists.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or breaks a rule.
    """
    source = DEFAULT_PROFILE if path is None else path
    document = _parse(source)
    settings = _convert(document, where=str(source))
    where = str(source)
    if overrides:
        where = f"{source} with the command line"
        settings = _convert(_overlay(document, overrides), where=where)
    for problem in (*rules.problems(settings), *placement.problems(settings)):
        raise ConfigError(f"{where}: {shown_safely(problem)}")
    return settings


def shown_safely(text: str) -> str:
    """Returns `text` as one line, without user and password of any address in it."""
    return " ".join(_CREDENTIALS.sub("://***@", text).split())


def _parse(source: Path) -> dict[str, Any]:
    """Reads a TOML file into plain tables."""
    try:
        with source.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ConfigError(
            f"{source}: configuration file must be readable: reason={reason}; "
            "give another with --config, or none for the demo profile"
        ) from None
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError(
            f"{source}: configuration file must be small: size_bytes_max={_FILE_BYTES_MAX}"
        )
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: file must be UTF-8 text: offset={error.start}") from None
    except RecursionError:
        raise ConfigError(f"{source}: tables must not nest this deep") from None
    except tomllib.TOMLDecodeError as error:
        reason = shown_safely(str(error)).replace("(at ", "(").lower()
        raise ConfigError(f"{source}: file must be valid TOML: {reason}") from None


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with `over` laid on it, table by table."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _overlay(below, value) if both and below is not None else value
    return merged


def _convert(document: Mapping[str, Any], *, where: str) -> Settings:
    """Turns plain tables into records, naming the key that does not fit."""
    try:
        return msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), document)}") from None


def _explain(message: str, document: Mapping[str, Any]) -> str:
    """Rewrites msgspec's message as a rule about a key of the file."""
    match = _ERROR.fullmatch(message)
    assert match is not None, message
    rule = match["rule"]
    key, value, kind = _walk(match["path"] or "", document)
    quoted = re.findall(r"`([^`]*)`", rule)
    if rule.startswith("Object contains unknown field"):
        return _unknown(key, quoted[0], kind)
    if rule.startswith("Object missing required field"):
        return f"{_dotted(key, quoted[0])} must be given"
    last = key.removesuffix(" values").rpartition(".")[2] or "value"
    text = json.dumps(value, default=str, ensure_ascii=False)
    shown = shown_safely(f"{last}={text[:_VALUE_CHARACTERS_MAX]}")
    if get_origin(kind) is Literal:
        choices = ", ".join(json.dumps(choice) for choice in get_args(kind))
        return f"{key} must be one of {choices}: {shown}"
    expected = quoted[0].removesuffix(" | null") if quoted else ""  # TOML has no null
    noun = _NOUNS.get(expected, expected) or rule
    return f"{key} must be {noun}: {shown}"


def _unknown(section: str, field: str, kind: object) -> str:
    """Says that a key does not exist, and which one is spelled most like it.

    The value stays out of the text: a misspelled key may hold a secret.
    """
    known: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    nearest = difflib.get_close_matches(field, known, n=1)
    advice = f"did you mean {nearest[0]}" if nearest else f"known keys are {', '.join(known)}"
    return f"{_dotted(section, field)} must be a known key; {advice}"


def _walk(path: str, document: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """Follows msgspec's path into the tables.

    Returns:
        The dotted key with list items called by their `name` or `symbol`, the value there, and
        its type.
    """
    key = ""
    value: Any = document
    kind: Any = Settings
    for step in _STEP.finditer(path):
        if step["name"] is not None:
            key = _dotted(key, step["name"])
            value = value.get(step["name"]) if isinstance(value, Mapping) else None
            kind = get_type_hints(kind).get(step["name"], Any)
            continue
        arguments = get_args(kind)
        kind = arguments[-1 if get_origin(kind) is dict else 0] if arguments else Any
        if not step["index"]:
            return f"{key} values", value, kind
        value = value[int(step["index"])]
        table = value if isinstance(value, Mapping) else {}
        name = table.get("name", table.get("symbol"))
        key = f"{key}.{name}" if isinstance(name, str) else f"{key}[{step['index']}]"
    return key, value, kind


def _dotted(section: str, field: str) -> str:
    """Joins a section and a key."""
    return f"{section}.{field}" if section else field
