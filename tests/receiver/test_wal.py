"""Damage in the write-ahead log of a journal whose writer was killed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.journal import JournalError, JournalReader
from receiver.wal import commits_lost

COMMITS = 120
WRITER = """
import asyncio, os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from receiver.journal import Journal, Report

async def main():
    journal, loop = Journal(Path(sys.argv[1])), asyncio.get_running_loop()
    for n in range(int(sys.argv[2])):
        durable = loop.create_future()
        journal.append([Report(datetime.now(UTC), "ip", "peer", f"frame {n}", ())], lambda: durable.set_result(None))
        await durable
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose writer was killed after COMMITS commits."""
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-c", WRITER, str(folder), str(COMMITS)], check=False)
    return folder


def log_of(folder: Path) -> Path:
    (log,) = (folder / "journal").glob("*-wal")
    return log


@pytest.fixture
def state_dir(killed: Path, tmp_path: Path) -> Path:
    shutil.copytree(killed, tmp_path / "state")
    return tmp_path / "state"


def test_a_whole_log_has_lost_nothing(state_dir: Path) -> None:
    assert commits_lost(log_of(state_dir)) == 0
    assert list(JournalReader(state_dir).verify())[-1] == COMMITS


def test_a_flipped_byte_in_the_log_is_named_by_its_entry(state_dir: Path) -> None:
    log = log_of(state_dir)
    data = bytearray(log.read_bytes())
    data[data.index(b"frame 57") + 6] ^= 1
    log.write_bytes(data)
    with pytest.raises(JournalError, match="behind entry 57 are lost") as raised:
        list(JournalReader(state_dir).verify())
    assert raised.value.position == 58


def test_a_damaged_header_of_the_log_loses_all_of_it(state_dir: Path) -> None:
    log = log_of(state_dir)
    data = bytearray(log.read_bytes())
    data[24] ^= 1
    log.write_bytes(data)
    assert commits_lost(log) >= COMMITS


def test_a_torn_last_write_is_no_damage(state_dir: Path) -> None:
    log = log_of(state_dir)
    data = bytearray(log.read_bytes())
    last = data.rindex(f"frame {COMMITS - 1}".encode())
    data[last : last + 512] = bytes(512)
    log.write_bytes(data)
    assert commits_lost(log) == 0
    assert list(JournalReader(state_dir).verify())[-1] == COMMITS - 1


@pytest.mark.parametrize("data", [b"", b"short", bytes(4096)])
def test_what_is_no_log_has_lost_nothing(tmp_path: Path, data: bytes) -> None:
    assert commits_lost(tmp_path / "missing") == 0
    (tmp_path / "log").write_bytes(data)
    assert commits_lost(tmp_path / "log") == 0
