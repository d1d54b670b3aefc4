"""
The README is true: its commands are run, its examples are loaded, its tables name what there is.

    ```console    a command, and what it prints on a terminal; numbers may differ, "..." stands for any lines
    ```sh         commands; those for a production machine are checked, not run
    ```toml, jsonl, python       loaded, executed
"""

import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from redis import Redis

from dispatch import sites
from dispatch.alarm import Priority
from dispatch.alarm_queue import REFUSALS
from dispatch.conditions import Condition
from dispatch.engine import DEFAULTS
from protocols.errors import Reason
from receiver import accounts, config
from tests.conftest import ARCGATE, Gateway

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:12000"
"""That of fixtures/first, which the README uses."""
COMMAND_S_MAX = 20


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


class Reader:
    """Somebody who types what the README says, in the folder where `make run` has run."""

    def __init__(self, folder: Path, gateway: Gateway, address: str) -> None:
        self.folder, self.gateway, self.address = folder, gateway, address
        self.env = {**os.environ, "ARCGATE_CONFIG": "var/arcgate.toml", "COLUMNS": "120"}
        self.env["PATH"] = f"{ARCGATE.parent}{os.pathsep}{self.env['PATH']}"
        self.redis = Redis(unix_socket_path=str(gateway.state_dir / "valkey" / "valkey.sock"), decode_responses=True)
        self.claimed = {"ID": "", "FENCE": "", "SEEN": ""}
        """What the last claim said, for the commands that follow."""

    def put_in(self, command: str) -> str:
        """A command with this gateway's address, and what the last claim said instead of what the README shows."""
        command = command.replace(ADDRESS, self.address)
        for name, value in self.claimed.items():
            command = re.sub(rf"\b{name}\b", value, command)
        command = re.sub(r"\bmain-[0-9a-f]{8}-\d{12}-\d+\b", self.claimed["ID"], command)
        return re.sub(r"--fence \d+", f"--fence {self.claimed['FENCE']}", command)

    def note_claim(self, told: str) -> None:
        if found := re.search(r"close (\S+) --fence (\d+) --seen (\d+)", told):
            self.claimed = dict(zip(self.claimed, found.groups(), strict=True))

    def see(self, command: str) -> str:
        """Run it on a terminal; gives what stands there, without colours."""
        terminal, side = pty.openpty()
        with subprocess.Popen(
            ["/bin/sh", "-c", self.put_in(command)],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=side,
            stderr=subprocess.PIPE,
        ) as process:
            os.close(side)
            told = b"".join(iter(lambda: read(terminal), b""))
            assert process.stderr
            refused = command.startswith("arcgate decode") and b"REFUSED" in told
            assert process.wait(COMMAND_S_MAX) == refused, process.stderr.read()
        os.close(terminal)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told.decode()).replace("\r\n", "\n")
        self.note_claim(text)
        return text

    def run(self, command: str) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", self.put_in(command)],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        self.note_claim(done.stdout.decode())

    def look(self, command: str) -> None:
        """Run a command that shows things until Ctrl-C; it has begun where it says so."""
        with subprocess.Popen(
            shlex.split(self.put_in(command)), cwd=self.folder, env=self.env, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr
            assert b"Ctrl-C" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(COMMAND_S_MAX) == 0

    def call(self, words: list[str]) -> None:
        """Send what redis-cli would; an error reply raises."""
        send: Callable[..., Any] = self.redis.execute_command
        reply = send(*words)
        if words[1].endswith("_claim"):
            alarm = dict(zip(reply[::2], reply[1::2], strict=True))
            self.claimed = {"ID": alarm["id"], "FENCE": alarm["fence"], "SEEN": alarm["events"]}


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side was closed
        return b""


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    with tempfile.TemporaryDirectory(prefix="arcgate-") as folder:  # short enough for the path of a unix socket
        gateway = first_gateway(Path(folder) / "var")
        reader = Reader(Path(folder), gateway, await gateway.address())
        yield reader
        reader.redis.close()
        assert gateway.stop() == 0


def first_gateway(home: Path) -> Gateway:
    """What `make run` starts, on a free port."""
    shutil.copytree(ROOT / "fixtures" / "first", home)
    written = home / "arcgate.toml"
    written.write_text(written.read_text().replace(ADDRESS, "127.0.0.1:0"))
    gateway = Gateway(home)
    gateway.start()
    return gateway


def masked(line: str) -> str:
    """A line without what differs from run to run: numbers, digests, the width of a column."""
    return " ".join(re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{16}\b|\b[0-9a-f]{8}\b|\\n[0-9A-F]{8}|\d+(\.\d+)?", "#", line).split())


def assert_shows(seen: str, shown: str) -> None:
    """Check that what was seen is what the README shows; a line "..." there stands for any lines."""
    lines = [masked(line) for line in shown.strip().splitlines()]
    expected = "".join(r"(.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in lines)
    got = "".join(f"{masked(line)}\n" for line in seen.strip().splitlines())
    assert re.fullmatch(expected, got), f"the README shows\n{shown}\nbut it is\n{seen}"


async def test_what_the_readme_says_happens_in_its_order(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reader goes from the top to the end: each command finds what those before it left."""
    monkeypatch.chdir(reader.folder)
    for language, text in BLOCKS:
        if language == "console":
            for part in text.split("$ ")[1:]:
                command, _, shown = part.partition("\n")
                assert_shows(reader.see(command), shown)
        elif language == "sh":
            for command in text.splitlines():
                type_in(reader, command.partition("  #")[0])
        elif language == "python":
            exec(compile(text, "README.md", "exec"), {})  # noqa: S102 - it is our own README
    assert reader.gateway.told("alarms", "list") == []


def type_in(reader: Reader, command: str) -> None:
    """Run a command where a test can, else check that what it names exists."""
    words = shlex.split(reader.put_in(command))
    match words[0]:
        case "arcgate" if words[1] == "watch":
            reader.look(command)
        case "arcgate":
            reader.run(command)
        case "redis-cli":
            assert words[1:3] == ["-s", "var/state/valkey/valkey.sock"]
            reader.call(words[3:])
        case "export":
            assert "ARCGATE_CONFIG=var/arcgate.toml" in words
        case "make":
            check_target(words[1])
        case "sudo":
            check_production(words[1:])
        case _:
            pytest.fail(f"no test for {command!r}")


def check_target(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    planned = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"run": "arcgate run --config", "test": ".ci/run all"}.get(target, "") in planned


def check_production(words: list[str]) -> None:
    """Files in /opt/arcgate are in the repository; units are in systemd/; verbs are the command line's."""
    for word in words:
        if word.startswith("/opt/arcgate/") and "/.venv/" not in word:
            assert (ROOT / word.removeprefix("/opt/arcgate/")).exists(), word
        if word.endswith(".service") and "/" not in word:
            assert (ROOT / "systemd" / word).exists(), word
    if words[0] == "make":
        check_target(words[-1])
    if "/opt/arcgate/.venv/bin/arcgate" in words:
        verb = words[words.index("/opt/arcgate/.venv/bin/arcgate") + 1 : words.index("--config")]
        subprocess.run([ARCGATE, *verb, "--help"], capture_output=True, check=True)


def test_the_examples_of_files_load(tmp_path: Path) -> None:
    """A TOML block names its file in its first line; a line of JSON with accounts is a site, else it is an account."""
    for folder in ("sites", "accounts"):
        (tmp_path / folder).mkdir()
    for text in blocks("toml"):
        (tmp_path / text.partition("\n")[0].removeprefix("# ")).write_text(text)
    for text in blocks("jsonl"):
        (tmp_path / ("sites" if '"accounts"' in text else "accounts") / "bulk.jsonl").write_text(text)
    loaded = config.load(tmp_path / "arcgate.toml")
    known_sites, site_mistakes = sites.load(loaded.sites)
    known_accounts, account_mistakes = accounts.load(loaded.accounts)
    assert (site_mistakes, account_mistakes) == ([], [])
    assert (len(known_sites), len(known_accounts)) == (3, 6)


def test_no_link_is_dead() -> None:
    headings = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        path, _, heading = target.partition("#")
        assert not path or (ROOT / path).exists(), target
        assert not heading or heading in headings, target


def rows(heading: str) -> dict[str, str]:
    """A table's rows by each word in `code` of their first cell; the table that follows these words."""
    table = README.partition(heading)[2].partition("\n|")[2].partition("\n\n")[0]
    cells = [line.strip("|").split("|", 1) for line in table.splitlines()[2:]]
    return {word: rest for first, rest in cells for word in re.findall(r"`([^`]+)`", first)}


def test_each_reason_of_a_refusal_is_explained() -> None:
    assert set(rows("Else it is `frame_rejected`")) == set(Reason)


def test_each_rule_is_explained() -> None:
    assert set(rows("The rules. All")) == {member.__struct_config__.tag for member in get_args(Condition)}


def test_the_priorities_are_those_of_the_defaults() -> None:
    told = rows("The priorities, and what has them")
    assert {word: rest.split("|")[0].strip() for word, rest in told.items()} == {p.name.lower(): str(int(p)) for p in Priority}
    for category, order in DEFAULTS.category["en"].items():
        assert f"`{category}`" in told[order.priority.name.lower()], category


def test_each_key_of_the_configuration_is_explained_with_its_default() -> None:
    told = rows("an unknown key is refused.\n\n```")
    fields = {f"listener[].{field.name}": field for field in msgspec.structs.fields(config.Listener)}
    fields |= {f"redis.{field.name}": field for field in msgspec.structs.fields(config.Redis)}
    fields |= {field.name: field for field in msgspec.structs.fields(config.Guarantees)}
    assert set(told) == {*fields, "state_dir", "accounts", "sites"}
    for key, field in fields.items():
        default = "needed" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"
        default = "none" if field.default is None else default
        assert told[key].split("|")[0].strip() == default, key


def test_each_event_of_the_log_is_explained() -> None:
    told = rows("### The log")
    code = "".join(path.read_text() for room in ("receiver", "dispatch", "arcgate") for path in (ROOT / room).glob("*.py"))
    assert set(re.findall(r'log\.(?:info|warning|error|critical)\(\s*"(\w+)"', code)) - set(told) == set()
    assert [event for event in told if f'"{event}"' not in code] == []


def test_each_refusal_of_the_queue_is_explained() -> None:
    section = README.partition("## Consoles")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([A-Z]{5,})`", section)) == REFUSALS


def test_each_verb_of_a_console_is_explained() -> None:
    registered = set(re.findall(r"'arcgate_v1_(\w+)'", (ROOT / "dispatch" / "lua" / "verbs.lua").read_text()))
    assert set(rows("in [dispatch/lua/verbs.lua](dispatch/lua/verbs.lua).")) == registered
