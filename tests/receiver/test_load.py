from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.load import ConfigError, Mistake, faults, files, jsonl, toml


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Round(msgspec.Struct, tag_field="shape", tag="round", forbid_unknown_fields=True):
    size: Annotated[int, msgspec.Meta(ge=1, description="1 or more")]


class Square(msgspec.Struct, tag_field="shape", tag="square", forbid_unknown_fields=True):
    side: float = 1

    def __post_init__(self) -> None:
        if self.side > 9:
            raise ValueError("too large for the box")


class Box(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    things: tuple[Round | Square, ...] = ()
    colours: dict[Colour, str | None] = {}


def test_a_good_file_is_read_without_mistakes(tmp_path: Path) -> None:
    mistakes: list[Mistake] = []
    (tmp_path / "a.toml").write_text('name = "b"\nthings = [{ shape = "round", size = 2 }]\ncolours.red = "dark"')
    assert toml(tmp_path / "a.toml", Box, mistakes) == Box("b", (Round(2),), {Colour.RED: "dark"})
    assert mistakes == []


def test_every_mistake_of_a_file_is_told_at_once() -> None:
    raw = {
        "nam": "b",
        "things": [{"size": 1}, {"shape": "rund"}, {"shape": "round", "size": 0, "side": 1}, 7, {"shape": "square", "side": 10}],
        "colours": {"red": 1, "gren": "x"},
    }
    assert faults(raw, Box) == [
        (".nam", "unknown key; did you mean `name`?"),
        (".things[0].shape", "is missing; known here: round, square"),
        (".things[1].shape", "unknown shape; did you mean `round`?"),
        (".things[2].size", "must be 1 or more"),
        (".things[2].side", "unknown key; did you mean `size`?"),
        (".things[3]", "must be a table, not an integer"),
        (".things[4]", "too large for the box"),
        (".colours.red", "must be text or empty, not an integer"),
        (".colours.gren", "unknown colour; did you mean `green`?"),
        (".name", "is missing: give it a value"),
    ]


def test_a_message_repeats_no_value() -> None:
    assert "secret" not in str(faults({"name": ["secret"], "things": "secret", "colours": {"red": ["secret"]}}, Box))


def test_an_error_gives_one_mistake_a_line() -> None:
    error = ConfigError([Mistake("a.toml", "b[0].c", "is missing"), Mistake("d.jsonl:3", "", "is no JSON")])
    assert str(error) == "a.toml: b[0].c: is missing\nd.jsonl:3: is no JSON"


def test_files_are_listed_by_name_without_hidden_and_other_ones(tmp_path: Path) -> None:
    for name in ("b.toml", "a.jsonl", ".c.toml", "d.txt", "e"):
        (tmp_path / name).touch()
    assert [path.name for path in files(tmp_path, [])] == ["a.jsonl", "b.toml"]
    assert files(tmp_path / "missing", []) == []


KEYS = st.sampled_from(["name", "things", "colours", "shape", "size", "side", "red"]) | st.text(max_size=3)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["round", "square", "red"]) | st.text(max_size=3)
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20)


@given(VALUES)
def test_faults_are_found_exactly_where_msgspec_refuses(raw: Any) -> None:
    found = faults(raw, Box)
    try:
        msgspec.convert(raw, Box)
    except msgspec.ValidationError:
        assert found
    else:
        assert not found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary())
def test_any_bytes_are_a_value_or_a_mistake(tmp_path: Path, data: bytes) -> None:
    mistakes: list[Mistake] = []
    path = tmp_path / "a"
    path.write_bytes(data)
    assert (toml(path, Box, mistakes) is None) == bool(mistakes)
    assert all(isinstance(box, Box) for _, box in jsonl(path, Box, mistakes))
