"""
Strict reading of what people write: TOML by hand, JSON Lines in bulk.

    file -> raw -> Struct       and, on the way, every mistake: file, path in it, what to do

`msgspec` stops at the first mistake; `faults` walks the same types and tells all of them: for TOML always, for a line of JSON
where msgspec refuses it. Nothing here raises on bad input, and messages repeat no values: one may be a key or a phone number.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

T = TypeVar("T")

MISTAKES_MAX: Final = 1000
"""A file's mistakes beyond these are not told one by one: the first ones say what is wrong."""

_GOT: Final = re.compile(r"Expected `(.+)`, got `(.+)`")
_WORDS: Final = {
    "str": "text",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "empty",
}


class Mistake(msgspec.Struct, frozen=True):
    """One thing to correct in a file that a person wrote."""

    file: str
    """As it was opened; for JSON Lines with the line's number: `sites/bulk.jsonl:3`."""
    path: str
    """Where in the file: `listener[0].adress`; empty for the file as a whole."""
    message: str
    """What is wrong, and what to do."""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.file, self.path, self.message)))


class ConfigError(Exception):
    """The configuration cannot be used; `str()` gives one mistake a line."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


def files(folder: Path, mistakes: list[Mistake]) -> list[Path]:
    """List the *.toml and *.jsonl files of a folder by name, hidden ones left out; a missing folder is empty."""
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        mistakes.append(Mistake(str(folder), "", f"this folder {_reason(error)}"))
        return []
    return [path for path in found if path.suffix in {".toml", ".jsonl"} and not path.name.startswith(".")]


def toml(path: Path, kind: type[T], mistakes: list[Mistake]) -> T | None:
    """Read one TOML file as a `kind`; None where there is a mistake, and the mistakes are added."""
    try:
        raw = tomllib.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:
        mistakes.append(Mistake(str(path), "", _reason(error)))
        return None
    return _convert(raw, kind, str(path), mistakes)


def jsonl(path: Path, kind: type[T], mistakes: list[Mistake]) -> Iterator[tuple[str, T]]:
    """Read each line of a JSON Lines file as a `kind`, with its place (`sites/bulk.jsonl:3`); blank lines are skipped."""
    decoder = msgspec.json.Decoder(kind)
    known = len(mistakes)
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if len(mistakes) - known >= MISTAKES_MAX:
                    mistakes.append(Mistake(f"{path}:{number}", "", "too many mistakes: the rest of this file was not read"))
                    return
                if line.isspace():
                    continue
                try:
                    value = decoder.decode(line)
                except (ValueError, msgspec.MsgspecError, RecursionError):
                    _tell_line(line, kind, f"{path}:{number}", mistakes)
                else:
                    yield f"{path}:{number}", value
    except (OSError, ValueError) as error:
        mistakes.append(Mistake(str(path), "", _reason(error)))


def _tell_line(line: bytes, kind: Any, file: str, mistakes: list[Mistake]) -> None:  # noqa: ANN401 - a type expression
    try:
        raw = msgspec.json.decode(line)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        mistakes.append(Mistake(file, "", _reason(error)))
    else:
        _convert(raw, kind, file, mistakes)


def _convert(raw: object, kind: type[T], file: str, mistakes: list[Mistake]) -> T | None:
    # msgspec lets a table without its tag pass where there is one kind of table only; `faults` asks for it, now and later
    found = [Mistake(file, path.lstrip("."), message) for path, message in faults(raw, kind)]
    mistakes += found[:MISTAKES_MAX]
    return None if found else msgspec.convert(raw, kind)


def _reason(error: Exception) -> str:
    match error:
        case OSError():
            return f"cannot be read: {error.strerror}"
        case UnicodeDecodeError():
            line = error.object.count(b"\n", 0, error.start) + 1
            return f"is not UTF-8{f' in line {line}' if line > 1 else ''}: save it as UTF-8"
        case RecursionError():
            return "is nested too deeply"
        case ValueError() if "digits" in str(error):
            return "a number in this file has too many digits"
        case _:
            return str(error)


def faults(raw: object, kind: Any, path: str = "") -> list[tuple[str, str]]:  # noqa: ANN401 - a type expression
    """
    Find every (path, message) that keeps `raw` from being a `kind`, as deep as it can be placed.

    raw: plain values. kind: what `msgspec.convert` takes, made of Structs, unions, tuples, dicts and leaves.
    """
    found: list[tuple[str, str]] = []
    members = _members(kind)
    if isinstance(raw, dict):
        found = _table_faults(raw, members, path)
    elif isinstance(raw, list):
        for member in members:
            if get_origin(member) in {tuple, list}:
                found = [fault for i, item in enumerate(raw) for fault in faults(item, get_args(member)[0], f"{path}[{i}]")]
    if found:
        return found
    try:
        msgspec.convert(raw, kind)
    except (msgspec.ValidationError, ValueError) as error:
        return [(path, _message(raw, kind, members, str(error)))]
    return []


def _members(kind: Any) -> list[Any]:  # noqa: ANN401 - a type expression
    """List the types that a type expression allows, without their annotations."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return [member for part in get_args(kind) for member in _members(part)]
    return [kind]


def _table_faults(raw: dict[str, Any], members: list[Any], path: str) -> list[tuple[str, str]]:
    structs = {member.__struct_config__.tag: member for member in members if hasattr(member, "__struct_config__")}
    if not structs:
        pairs = [get_args(member) for member in members if get_origin(member) is dict]
        parts = [
            (key, part, kind)
            for keys, values in pairs
            for key, value in raw.items()
            for part, kind in ((key, keys), (value, values))
        ]
        return [fault for key, part, kind in parts for fault in faults(part, kind, f"{path}.{key}")]
    tag_field = next(iter(structs.values())).__struct_config__.tag_field
    tag = raw.get(tag_field) if tag_field else None
    if not isinstance(tag, str | None) or tag not in structs:
        trouble = f"unknown {tag_field}" if tag_field in raw else "is missing"
        return [(f"{path}.{tag_field}", f"{trouble}; {_hint(str(tag or ''), structs)}")]
    fields = {field.encode_name: field for field in msgspec.structs.fields(structs[tag])}
    found: list[tuple[str, str]] = []
    for key, value in raw.items():
        if key in fields:
            found += faults(value, fields[key].type, f"{path}.{key}")
        elif key != tag_field:
            found.append((f"{path}.{key}", f"unknown key; {_hint(key, fields)}"))
    return found + [(f"{path}.{key}", "is missing: give it a value") for key in fields if fields[key].required and key not in raw]


def _message(raw: object, kind: Any, members: list[Any], error: str) -> str:  # noqa: ANN401 - a type expression
    parts = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    notes = [note for part in parts for note in getattr(part, "__metadata__", ()) if note.description]
    if notes:
        return f"must be {' or '.join(note.description for note in notes)}"
    if get_origin(kind) is Literal:
        return "must be " + " or ".join(f'"{word}"' for word in get_args(kind))
    for member in members:
        if isinstance(member, type) and issubclass(member, Enum) and isinstance(raw, str):
            return f"unknown {member.__name__.lower()}; {_hint(raw, [str(value.value) for value in member])}"
    text = error.partition(" - at `")[0]
    if got := _GOT.fullmatch(text):
        wanted, given = (" or ".join(_WORDS.get(word, word) for word in words.split(" | ")) for words in got.groups())
        return f"must be {wanted}, not {given}"
    return text


def _hint(word: str, known: Iterable[object]) -> str:
    """Say what was meant, or where nothing is near, what there is."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(names)}"
