"""A folder of Asterisk's files: each is read when it is whole, moved when it is stored, and never lost."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocols.asterisk import Asterisk
from protocols.event import CENTRE
from receiver import spool
from receiver.config import Listener
from receiver.faults import PORT_LOST, Faults
from receiver.journal import Journal, JournalReader
from receiver.spool import SpoolListener
from tests.receiver.attached import told
from tests.receiver.conftest import held, intake, policies, until

CALL = b"\n\n[metadata]\n\nTIMESTAMP=now\n\n[events]\n\n1234181131010158\n1234183131010156\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(spool, "LOOK_S", 0.005)
    folder = tmp_path / "calls"
    folder.mkdir()
    return folder


@pytest.fixture
async def listener(journal: Journal, folder: Path, state_dir: Path) -> AsyncIterator[SpoolListener]:
    calls = Listener(name="calls", transport="spool", address=str(folder), protocol=Asterisk())
    listener = SpoolListener(calls, intake(journal), policies, Faults(journal, state_dir))
    await listener.open()
    yield listener
    listener.refuse_new()
    await listener.closed()


def write(folder: Path, name: str, data: bytes, age_s: float = 10) -> Path:
    path = folder / name
    path.write_bytes(data)
    at = path.stat().st_mtime - age_s
    os.utime(path, (at, at))
    return path


@pytest.mark.usefixtures("listener")
async def test_a_call_is_journalled_and_its_file_moved_whole(journal: Journal, folder: Path, state_dir: Path) -> None:
    write(folder, "event-a", CALL)
    await until((folder / "taken" / "event-a").exists)
    assert (folder / "taken" / "event-a").read_bytes() == CALL
    assert journal.durable == 2
    assert told(state_dir) == [("1234", "131", "new"), ("1234", "131", "restore")]


async def test_a_file_is_not_moved_before_it_is_stored_nor_read_twice_meanwhile(
    listener: SpoolListener, journal: Journal, folder: Path
) -> None:
    with held(journal):
        path = write(folder, "event-a", CALL)
        await until(lambda: listener.reading == {path})
        write(folder, "event-b", CALL.replace(b"1234", b"5678"))
        await until(lambda: len(listener.reading) == 2)
        assert path.exists()
        assert journal.appended == 4
    await until(lambda: not list(folder.glob("event-*")))
    assert not listener.reading


@pytest.mark.usefixtures("listener")
async def test_a_file_that_still_grows_and_one_of_another_kind_stay(journal: Journal, folder: Path) -> None:
    growing, other = write(folder, "event-a", CALL[:40], age_s=0), write(folder, "recording.wav", b"RIFF")
    write(folder, "event-b", CALL)
    await until((folder / "taken" / "event-b").exists)
    assert growing.exists()
    assert other.exists()
    assert journal.durable == 2


@pytest.mark.usefixtures("listener")
async def test_a_file_without_an_event_is_raised_and_moved(journal: Journal, folder: Path, state_dir: Path) -> None:
    write(folder, "event-a", b"\xff\xfe rubbish \n\n")
    write(folder, "event-b", b"")
    await until(lambda: not list(folder.glob("event-*")))
    assert journal.durable == 2
    assert told(state_dir) == [(CENTRE, "", "new")] * 2


@pytest.mark.usefixtures("listener")
async def test_while_the_journal_takes_nothing_the_files_wait(journal: Journal, folder: Path) -> None:
    journal.held.add("test")
    path = write(folder, "event-a", CALL)
    write(folder, "recording.wav", b"")
    await until((folder / "taken").exists)
    assert path.exists()
    journal.held.clear()
    await until(lambda: not path.exists())
    assert journal.durable == 2


@pytest.mark.usefixtures("listener")
async def test_a_file_of_the_same_name_takes_no_place_of_another(journal: Journal, folder: Path) -> None:
    for n in (1, 2):
        path = write(folder, "event-a", CALL * n)
        await until(lambda: not path.exists())  # noqa: B023 - awaited here
    assert sorted(len(path.read_bytes()) for path in (folder / "taken").iterdir()) == [len(CALL), len(CALL) * 2]
    assert journal.durable == 6


@pytest.mark.usefixtures("listener")
async def test_a_file_that_cannot_be_read_is_named_and_stops_no_other(
    folder: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def locked(path: Path, mode: str = "r", **keys: Any) -> Any:
        if path.name == "event-a" and mode == "rb":
            raise PermissionError(13, "Permission denied")
        return real(path, mode, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", locked)  # root may read everything
        write(folder, "event-a", CALL.replace(b"1234", b"5678"))
        write(folder, "event-b", CALL)
        await until((folder / "taken" / "event-b").exists)
    await until((folder / "taken" / "event-a").exists)
    lost, found = (CENTRE, PORT_LOST, "new"), (CENTRE, PORT_LOST, "restore")
    await until(lambda: found in told(state_dir))
    assert {lost, ("1234", "131", "new"), ("5678", "131", "new")} <= set(told(state_dir))
    reader = JournalReader(state_dir)
    texts = [event.text or "" for entry in reader.read(0, reader.head()) for event in entry.report.events]
    reader.close()
    assert any("event-a (Permission denied)" in text and "0600" in text for text in texts)


@pytest.mark.usefixtures("listener")
async def test_a_folder_that_vanishes_is_raised_and_restored(journal: Journal, folder: Path, state_dir: Path) -> None:
    await until((folder / "taken").exists)
    os.rename(folder, folder.with_name("gone"))  # noqa: PTH104 - at once
    await until(lambda: journal.durable == 1)
    os.rename(folder.with_name("gone"), folder)  # noqa: PTH104 - at once
    await until(lambda: journal.durable == 2)
    assert told(state_dir) == [(CENTRE, PORT_LOST, "new"), (CENTRE, PORT_LOST, "restore")]
