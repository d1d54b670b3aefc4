"""The units name verbs, users and folders that exist; where systemd is there, it agrees."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from arcgate.__main__ import app
from tests.conftest import ARCGATE

FOLDER = Path(__file__).parents[1] / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
LEAST_PRIVILEGE = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "SystemCallFilter": "@system-service",
    "MemoryDenyWriteExecute": "yes",
}


class Unit(configparser.RawConfigParser):
    """A unit's sections and keys, as they are written; a key that comes twice would be an error."""

    def __init__(self, path: Path) -> None:
        super().__init__(comment_prefixes=("#",), delimiters=("=",), interpolation=None)
        self.read_string(path.read_text())

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def test_there_is_a_unit_for_both_halves_and_one_for_each() -> None:
    assert [path.name for path in UNITS] == ["arcgate-dispatch.service", "arcgate-receive.service", "arcgate.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_verb_that_exists(path: Path) -> None:
    program, verb, *words = Unit(path)["Service"]["ExecStart"].split()
    assert (program, words) == ("/opt/arcgate/.venv/bin/arcgate", ["--config", "/etc/arcgate/arcgate.toml"])
    assert verb in {command.callback.__name__ for command in app.registered_commands if command.callback}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_watched_and_has_no_more_rights_than_it_needs(path: Path) -> None:
    service = dict(Unit(path)["Service"])
    assert (service["Type"], service["Restart"], service["StateDirectory"]) == ("notify", "always", "arcgate")
    assert int(service["WatchdogSec"]) > 0
    assert {key: service.get(key) for key in LEAST_PRIVILEGE} == LEAST_PRIVILEGE


@pytest.mark.parametrize("name", ["arcgate", "arcgate-receive"])
def test_a_unit_that_receives_is_reloaded_by_a_signal_that_it_knows(name: str) -> None:
    assert Unit(FOLDER / f"{name}.service")["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_no_fault(path: Path, tmp_path: Path) -> None:
    """Where there is no systemd, the tests above are all that can be said."""
    if analyze := shutil.which("systemd-analyze"):
        unit = tmp_path / path.name
        unit.write_text(path.read_text().replace("/opt/arcgate/.venv/bin/arcgate", str(ARCGATE)))
        done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
        assert [line for line in done.stderr.splitlines() if path.name in line] == []


def test_the_account_and_the_folders_are_those_of_the_units() -> None:
    users = [line.split()[1] for line in (FOLDER / "arcgate.sysusers").read_text().splitlines() if line.startswith("u ")]
    folders = [line.split()[1] for line in (FOLDER / "arcgate.tmpfiles").read_text().splitlines() if line.startswith("d ")]
    assert {Unit(path)["Service"]["User"] for path in UNITS} == set(users)
    assert folders == ["/etc/arcgate", "/etc/arcgate/accounts", "/etc/arcgate/sites", "/var/lib/arcgate"]
