"""What a person got wrong is refused at start: exit code 2, the file, the path in it, and what to do; never a traceback."""

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import Centre
from tests.conftest import ARCGATE, run_arcgate

PR_CAPBSET_DROP = 24
CAPABILITIES = (1, 2)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: by which root writes where nobody may."""

GOOD = """
state_dir = "state"

[[listener]]
name = "ip"
protocol = "dc09"
transport = "tcp"
address = "127.0.0.1:0"
"""


MISSPELT = {
    "accounts/bulk.jsonl": ('{"number": "1234"}\n{"numer": "1235"}\n', ":2: numer: "),
    "accounts/by_hand.toml": ('[[account]]\nnumber = "1234"\nlistner = "ip"\n', ": account[0].listner: "),
    "sites/bulk.jsonl": ('{"id": "a", "accounts": ["1"]}\n{"id": "b", "acounts": ["2"]}\n', ":2: acounts: "),
    "sites/shop.toml": ('name = "Shop"\naccounts = ["1234"]\ninstruction = []\n', ": instruction: "),
}
"""By file: its content, and where the mistake is."""


@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_misspelt_key_in_each_kind_of_file(tmp_path: Path, verb: str) -> None:
    config = tmp_path / "arcgate.toml"
    config.write_text(GOOD.replace("address =", "adress =") + "[redis]\ncenter = 'main'\n")
    for name, (content, _) in MISSPELT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    done = run_arcgate(verb, "--config", config)
    assert done.returncode == 2
    for path in ("listener[0].adress", "redis.center"):
        assert f"{config}: {path}: " in done.stderr

    config.write_text(GOOD)
    done = run_arcgate(verb, "--config", config)
    assert done.returncode == 2
    for name, (_, path) in MISSPELT.items():
        assert f"{tmp_path / name}{path}" in done.stderr
    assert done.stderr.count("did you mean") == len(MISSPELT)
    assert not (tmp_path / "state").exists()


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "arcgate.toml"
        config.write_text(GOOD.replace(":0", f":{taken.getsockname()[1]}"))
        done = run_arcgate("run", "--config", config)
    assert done.returncode == 2
    assert f"{config}: listener[ip].address: cannot listen on" in done.stderr
    assert "is another program on that port" in done.stderr


def test_a_state_folder_that_a_second_gateway_has(tmp_path: Path) -> None:
    centre = Centre(tmp_path)
    centre.start()
    done = centre.arcgate("run")
    assert done.returncode == 2
    assert f"{centre.config}: state_dir: " in done.stderr
    assert "stop it, or give this one its own state_dir" in done.stderr
    assert centre.stop() == 0


def without_privilege() -> None:
    libc = ctypes.CDLL(None)
    for capability in CAPABILITIES:
        libc.prctl(PR_CAPBSET_DROP, capability)


def in_a_locked_folder(home: Path) -> None:
    home.chmod(0o500)


def with_a_locked_folder(home: Path) -> None:
    (home / "state").mkdir()
    (home / "state").chmod(0o500)


def with_a_file_in_its_place(home: Path) -> None:
    (home / "state").write_text("")


def with_a_locked_journal(home: Path) -> None:
    (home / "state" / "journal").mkdir(parents=True)
    (home / "state" / "journal").chmod(0o500)


def with_a_file_for_valkey(home: Path) -> None:
    (home / "state").mkdir()
    (home / "state" / "valkey").write_text("")


@pytest.mark.parametrize(
    ("lock", "verbs"),
    [
        (in_a_locked_folder, ("run", "receive", "dispatch")),
        (with_a_locked_folder, ("receive",)),
        (with_a_file_in_its_place, ("dispatch",)),
        (with_a_locked_journal, ("run",)),
        (with_a_file_for_valkey, ("dispatch",)),
    ],
)
def test_a_state_folder_that_it_may_not_write(tmp_path: Path, lock: Callable[[Path], None], verbs: tuple[str, ...]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    config = home / "arcgate.toml"
    config.write_text(GOOD)
    lock(home)
    for verb in verbs:
        done = subprocess.run(
            [ARCGATE, verb, "--config", config],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            preexec_fn=without_privilege,
        )
        assert done.returncode == 2, (verb, done.stderr)
        assert done.stderr.startswith(f"{config}: state_dir: "), done.stderr
        assert f"{home}/state" in done.stderr
        assert "Traceback" not in done.stderr
    for folder, _, _ in os.walk(home):
        Path(folder).chmod(0o700)
