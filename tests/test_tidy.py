"""The house rules: what no linter knows, and a reader counts on."""

import ast
import inspect
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from arcgate.__main__ import app
from dispatch.conditions import Condition
from dispatch.engine import DEFAULTS
from protocols import AnyProtocol
from protocols.event import Category

ROOT = Path(__file__).parents[1]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
ROOMS = ("protocols", "receiver", "dispatch", "arcgate")
TOP = {*ROOMS, "tests", "fixtures", "systemd", ".ci"} | {
    *("pyproject.toml", "requirements.lock", "Makefile", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore")
}
POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+")
NAMES_NOT_WANTED = re.compile(r"(utils?|helpers?|common|base|managers?|handlers?)(_|$)", re.IGNORECASE)
TESTED_ELSEWHERE = {
    "protocols/event.py": "types only",
    "protocols/errors.py": "types only",
    "protocols/link.py": "types; escape and unescape carry every vector of protocols/dc09/test_link.py",
    "dispatch/alarm.py": "types only",
    "receiver/notify.py": "the gateway of conftest.py waits for its READY",
    "arcgate/__main__.py": "the list of verbs: this file goes through them",
    "arcgate/run.py": "the gateway of conftest.py is started by it",
    "arcgate/gateway.py": "the gateway of conftest.py is this",
    "arcgate/alarm_view.py": "arcgate/test_alarms.py reads what it lays out",
    "arcgate/panel_options.py": "arcgate/test_panel.py gives them, right and wrong",
    "arcgate/panel_line.py": "arcgate/test_panel.py and test_panel_load.py speak over it",
    "arcgate/panel_talk.py": "arcgate/test_panel.py has each answer it judges",
    "arcgate/panel_wire.py": "arcgate/test_panel_receiver.py speaks over each kind of it",
    "arcgate/decode_view.py": "arcgate/test_decode.py reads what it tells",
    "arcgate/decode_advice.py": "the same",
    "arcgate/alarm_watch.py": "arcgate/test_alarms.py has its verb",
    "arcgate/ask.py": "arcgate/test_alarms.py asks by it, also where nobody answers",
    "arcgate/output.py": "arcgate/test_alarms.py and test_status.py read what it writes",
}
"""Source files without a test file of their own, and why."""
ELSEWHERE = re.compile("|".join(("/work" + "/", "/root" + "/", "/home" + "/", r"pypi" + r"\.org", "files" + r"\.pythonhosted")))
"""Places that are on one machine alone, or that the lock must not name. Written in parts: this file keeps its own rule."""
LEFT_OPEN = re.compile("TO" + "DO|FIX" + "ME|XX" + "X")
EXCUSE = re.compile(r"#\s*(noqa|type:\s*ignore)")
REASONED = re.compile(r"#\s*(noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type:\s*ignore\[[\w, -]+\]) (- |# )\S")


@cache
def files() -> list[Path]:
    """Every file that is, or would be, in the repository, by its path in it."""
    words = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [Path(name) for name in sorted(set(listed)) if name and (ROOT / name).is_file()]


@cache
def text(path: Path) -> str:
    """What stands in a file; empty for one that is no text."""
    data = (ROOT / path).read_bytes()
    try:
        return "" if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return ""


def sources(*suffixes: str) -> list[Path]:
    return [path for path in files() if path.suffix in suffixes]


def lines_that(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for path in files():
        for number, line in enumerate(text(path).splitlines(), 1):
            if pattern.search(line):
                yield f"{path}:{number}", line


def test_a_file_of_code_is_short_enough_to_read() -> None:
    long = {str(path): len(text(path).splitlines()) for path in sources(".py", ".lua")}
    assert {path: lines for path, lines in long.items() if lines > FILE_LINES_MAX} == {}


def test_a_function_fits_on_a_page() -> None:
    long = {}
    for path in sources(".py"):
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1 - docstring_lines(node)
                if lines > FUNCTION_LINES_MAX:
                    long[f"{path}: {node.name}"] = lines
    assert long == {}


def docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    return (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) is not None else 0


def test_a_name_says_what_is_in_it() -> None:
    unclear = [str(path) for path in files() if any(NAMES_NOT_WANTED.match(Path(part).stem) for part in path.parts)]
    assert unclear == []
    assert not (ROOT / "dispatch" / "queue.py").exists(), "it would shadow the standard library's queue"


def test_the_top_level_holds_what_the_readme_explains() -> None:
    assert {path.parts[0] for path in files()} - TOP == set()
    assert [name for name in sorted(TOP) if name not in readme_map()] == []


def test_the_readme_has_every_source_file_on_its_map() -> None:
    told = readme_map()
    assert [str(path) for path in files() if path.parts[0] in {*ROOMS, "systemd"} and path.name not in told] == []


def readme_map() -> str:
    return text(Path("README.md")).partition("## The map of the code")[2].partition("\n## ")[0]


def test_each_source_file_has_its_test_file() -> None:
    expected = {str(path): f"tests/{path.parent}/test_{path.name}" for path in sources(".py") if path.parts[0] in ROOMS}
    untested = {source for source, test in expected.items() if not (ROOT / test).exists() and not source.endswith("/__init__.py")}
    untested -= {f"protocols/{member.__struct_config__.tag}.py" for member in get_args(AnyProtocol)}  # test_every_protocol.py
    assert sorted(untested - set(TESTED_ELSEWHERE)) == []
    assert sorted(set(TESTED_ELSEWHERE) - set(expected)) == [], "an exception for a file that is gone"


def test_each_exception_from_a_rule_has_its_reason() -> None:
    excused = [(where, line) for where, line in lines_that(EXCUSE) if ".py:" in where]
    assert [where for where, line in excused if not REASONED.search(line)] == []


def test_nothing_is_left_for_later_without_an_issue() -> None:
    assert list(lines_that(LEFT_OPEN)) == []


def test_no_expression_repeats_a_group_possessively() -> None:
    """Python before 3.11.5, as Debian 12 has it, misreads it where the group can go back. A class of signs is no group."""
    assert [where for where, _ in lines_that(POSSESSIVE_GROUP) if where.startswith(ROOMS) and ".py:" in where] == []


def test_no_file_names_a_machine_or_a_download_host() -> None:
    assert list(lines_that(ELSEWHERE)) == []


def test_each_protocol_has_its_vectors() -> None:
    words = [str(member.__struct_config__.tag) for member in get_args(AnyProtocol) or (AnyProtocol,)]
    assert [word for word in words if not any(path.parts[:2] == ("fixtures", word) for path in files())] == []


def test_each_category_has_the_centres_default() -> None:
    assert {language: set(orders) for language, orders in DEFAULTS.category.items()} == {"en": set(Category), "fr": set(Category)}


def test_each_rule_is_used_by_a_site_in_fixtures() -> None:
    used = set()
    for path in files():
        if (
            path.suffix == ".toml"
            and path.parts[:2] in {("fixtures", "sites"), ("fixtures", "first")}
            and "mistakes" not in path.parts
        ):
            instructions = tomllib.loads(text(path)).get("instructions", [])
            used |= {condition["rule"] for instruction in instructions for condition in instruction.get("when", [])}
    assert {member.__struct_config__.tag for member in get_args(Condition)} - used == set()


def verbs(commands: typer.Typer, words: tuple[str, ...] = ("arcgate",)) -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in commands.registered_commands:
        assert command.callback
        yield " ".join((*words, command.name or command.callback.__name__)), command.callback
    for group in commands.registered_groups:
        assert group.typer_instance
        yield from verbs(group.typer_instance, (*words, str(group.name)))


@pytest.mark.parametrize(("words", "verb"), [pytest.param(*verb, id=verb[0]) for verb in verbs(app)])
def test_each_verb_helps_with_an_example_of_itself(words: str, verb: Callable[..., Any]) -> None:
    assert re.search(f"Example: `{words}[ `]", inspect.getdoc(verb) or "")


def test_a_script_can_be_run_and_nothing_else_can() -> None:
    scripts = {str(path) for path in files() if text(path).startswith("#!/")}
    assert {str(path) for path in files() if os.access(ROOT / path, os.X_OK)} == scripts
