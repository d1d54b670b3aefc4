"""What was received, from the command line, and the proof that it is what was written."""

import json
import shutil
import sqlite3
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from arcgate.journal import _lines
from protocols import dc09
from protocols.event import CENTRE, Category, Event, Format, Qualifier
from receiver.config import Guarantees
from receiver.delivered import Delivered
from receiver.journal import Entry, Report
from receiver.ledger import Ledger
from tests.conftest import ARCGATE, CONFIG, Gateway, run_arcgate, sia, small_disk

FIELDS = ["position", "received_at", "listener", "peer", "frame", "events", "digest"]


async def test_entries_are_listed_from_a_position_or_the_last_ones_and_followed(gateway: Gateway) -> None:
    frames = [sia("1234", "Nri1/BA5", n) for n in range(1, 6)]
    await gateway.send(*frames)

    entries = gateway.told("journal", "list")
    assert [entry["position"] for entry in entries] == [1, 2, 3, 4, 5]
    first = entries[0]
    assert list(first)[:7] == FIELDS
    assert first["frame"] == dc09.build(frames[0]).decode().replace("\n", r"\n").replace("\r", r"\r")
    assert first["received_at"].endswith("Z")
    assert (first["listener"], first["events"][0]["code"], first["error"]) == ("ip", "BA", None)

    assert [entry["position"] for entry in gateway.told("journal", "list", "--limit", "2")] == [4, 5]
    after = gateway.arcgate("journal", "list", "--after", "1", "--limit", "2", "--json")
    assert [json.loads(line)["position"] for line in after.stdout.splitlines()] == [2, 3]
    assert after.stderr == "up to 3 of 5: `--after 3` goes on, `--limit 0` shows all\n"
    page = gateway.arcgate("journal", "list", "--limit", "0").stdout
    assert page.count(r"[#1234|Nri1/BA5]\r") == 5

    words = ("journal", "list", "--follow", "--json", "--after", "4", "--config", str(gateway.config))
    following = await create_subprocess_exec(ARCGATE, *words, stdout=PIPE)
    assert following.stdout
    assert json.loads(await following.stdout.readline())["position"] == 5
    await gateway.send(sia("1234", "Nri1/BA6", 6))
    assert json.loads(await following.stdout.readline())["position"] == 6
    following.terminate()
    await following.wait()


async def test_what_was_wrong_with_a_frame_that_was_taken_all_the_same_is_listed(gateway: Gateway) -> None:
    late = msgspec.structs.replace(sia("1234", "Nri1/BA5"), timestamp=datetime(2026, 1, 1, tzinfo=UTC))
    await gateway.send(late)
    marked = gateway.told("journal", "list")[0]["mark"]
    assert marked.startswith("the panel's clock is ")
    assert f"BA, {marked}" in " ".join(gateway.arcgate("journal", "list").stdout.split())


async def test_one_flipped_byte_is_found_and_its_entry_named(gateway: Gateway) -> None:
    await gateway.send(*(sia("1234", f"Nri1/BA{n}", n) for n in range(1, 21)))
    gateway.stop()
    (path,) = (gateway.state_dir / "journal").glob("*.db")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()

    done = gateway.arcgate("journal", "verify")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    journal, _, said = first.partition(": ")
    assert said.startswith("20 entries, head digest ")
    assert said.endswith(": unaltered")
    assert second.startswith("not compared with Redis: the embedded Valkey gives no answer")

    for mask in (0x01, 0x80):  # another letter; no UTF-8 any more
        whole = path.read_bytes()
        at = whole.index(b"Nri1/BA13")
        path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
        done = gateway.arcgate("journal", "verify", "--json")
        told = json.loads(done.stdout)
        assert done.returncode == 1
        assert (told["journal"], told["entries"], told["ok"], told["entry"]) == (journal, 0, False, 13)
        assert "entry 13 was altered" in done.stderr
        assert told["error"] == done.stderr.strip()
        path.write_bytes(whole)


def test_what_the_gateway_says_of_itself_is_told_with_its_text_and_whether_it_is_over() -> None:
    told = []
    for qualifier, text in ((Qualifier.NEW, "mlr2: silent"), (Qualifier.RESTORE, "mlr2: heard again")):
        event = Event(CENTRE, Format.ARCGATE, "receiver_link_lost", qualifier, Category.GENERATED, text=text)
        report = Report(datetime(2026, 11, 22, tzinfo=UTC), "mlr2", "", "", (event,))
        told.append(" ".join(_lines(Entry(1, report, "")).split()))
    assert told[0].endswith("account (centre): receiver_link_lost mlr2: silent")
    assert told[1].endswith("account (centre): receiver_link_lost restored mlr2: heard again")


def test_without_a_journal_verify_says_what_makes_one(tmp_path: Path) -> None:
    config = tmp_path / "arcgate.toml"
    config.write_text(CONFIG)
    done = run_arcgate("journal", "verify", "--config", config)
    assert done.returncode == 1
    assert "there is none yet: `arcgate run` makes it" in done.stderr


async def test_a_running_gateway_knows_the_head_of_its_journal(gateway: Gateway) -> None:
    await gateway.send(*(sia("1234", f"Nri1/BA{n}", n) for n in range(1, 4)))
    (told,) = gateway.told("journal", "verify")
    assert told["compared"] == [{"source": "redis", "position": 3, "digest": told["digest"]}]
    assert (told["ok"], told["entries"], told["not_compared"]) == (True, 3, [])


async def test_a_backup_is_made_while_the_gateway_runs_and_brings_an_empty_machine_up(gateway: Gateway, tmp_path: Path) -> None:
    await gateway.send(sia("1234", "Nri1/BA5", 1), sia("5678", "Nri1/FA1", 2))
    (claimed,) = gateway.told("alarms", "claim", "--operator", "anna")
    gateway.told("alarms", "close", claimed["id"], "--fence", claimed["fence"], "--seen", "1", "--outcome", "real")
    before = gateway.told("alarms", "list")
    backup = tmp_path / "backup"
    until_copied(gateway, 2)

    register, journal = gateway.told("journal", "backup", backup)
    assert (register["copied"], register["entries"]) == (["000000000001.db"], 2)
    assert (journal["copied"], journal["entries"]) == (["000000000001.db"], 2)
    assert journal["folder"] == str(backup / "journal")
    await gateway.send(sia("1234", "Nri1/BA6", 3))
    again = gateway.arcgate("journal", "backup", backup).stdout.splitlines()
    assert again[1].startswith(f"{backup}/journal: 1 file copied of journal {journal['journal']}, 3 entries, head digest ")
    assert again[1].endswith(": unaltered")

    gateway.stop()
    shutil.rmtree(gateway.state_dir)
    gateway.state_dir.mkdir()
    for what in ("journal", "register"):
        shutil.copytree(backup / what, gateway.state_dir / what)
    kept = Delivered.read(backup)
    assert kept
    assert (kept.journal, kept.cursor in {2, 3}) == (journal["journal"], True), "so that it need not begin at the first entry"
    shutil.copy(backup / "delivered.json", gateway.state_dir)
    gateway.start()
    await gateway.send(sia("1234", "Nri1/BA7", 4))
    (alarm,) = gateway.told("alarms", "list")
    assert [alarm["id"]] == [alarm["id"] for alarm in before]
    assert alarm["events"] == 3
    (told,) = gateway.told("journal", "verify")
    assert (told["ok"], told["journal"], told["entries"]) == (True, journal["journal"], 4)


def until_copied(gateway: Gateway, acts: int) -> None:
    """Return when the register has so many: dispatch copies them by itself."""
    while gateway.arcgate("register", "list", "--json").stdout.count("\n") < acts:
        pass


async def test_a_copy_is_not_written_over_by_what_is_no_longer_than_it(gateway: Gateway, tmp_path: Path) -> None:
    """A journal put back from long ago, or another one, must not take the last good copy with it."""
    await gateway.send(sia("1234", "Nri1/BA5", 1))
    gateway.told("journal", "backup", tmp_path / "first")
    await gateway.send(sia("1234", "Nri1/BA6", 2))
    gateway.told("journal", "backup", tmp_path / "second")
    gateway.stop()
    for what, said in ((tmp_path / "first" / "journal", "up to 2 of"), (None, "another one's")):
        shutil.rmtree(gateway.state_dir / "journal")
        if what:
            shutil.copytree(what, gateway.state_dir / "journal")
        else:
            gateway.start()
            gateway.stop()
        done = gateway.arcgate("journal", "backup", tmp_path / "second", "--json")
        told = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == 1, said
        assert told["error"]["reason"] == "BACKUP"
        assert "second/journal: it holds entries up to 2 of main-" in done.stderr
        assert "name another folder" in done.stderr


def test_a_backup_that_is_not_what_was_written_is_told(tmp_path: Path) -> None:
    state_dir, config = tmp_path / "state", tmp_path / "arcgate.toml"
    config.write_text(CONFIG)
    with closing(Ledger(state_dir / "journal", Guarantees(segment_bytes=65_536))) as ledger:
        for _ in range(5):
            ledger.insert(ledger.chain([b"x" * 1000] * 100))
    done = run_arcgate("journal", "backup", tmp_path / "to", "--config", config)
    assert done.returncode == 0, done.stderr
    assert ": 5 files copied of journal main-" in done.stdout
    with closing(sqlite3.connect(tmp_path / "to" / "journal" / "000000000101.db")) as copy, copy:
        copy.execute("DELETE FROM entry WHERE position = 150")
    done = run_arcgate("journal", "backup", tmp_path / "to", "--config", config)
    assert done.returncode == 1
    assert "to/journal/000000000101.db: entry 150 is missing" in done.stderr
    for nowhere in (config, Path("/proc/nowhere")):
        done = run_arcgate("journal", "backup", nowhere, "--config", config)
        assert (done.returncode, done.stdout) == (1, "")
        assert str(nowhere) in done.stderr


def test_a_backup_that_finds_no_room_names_the_place_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    config, to = tmp_path / "arcgate.toml", tmp_path / "to"
    config.write_text(CONFIG)
    with closing(Ledger(tmp_path / "state" / "journal", Guarantees(segment_bytes=65_536))) as ledger:
        for _ in range(5):
            ledger.insert(ledger.chain([b"x" * 1000] * 100))
    size = sum(path.stat().st_size for path in (tmp_path / "state" / "journal").glob("*.db"))
    with small_disk(to, size + 8192) as mounted:
        if not mounted:
            return
        ballast = to / "ballast"
        for taken in (size + 8192, size // 2, 12_288):
            ballast.write_bytes(b"x" * taken)
            done = run_arcgate("journal", "backup", to, "--config", config)
            assert (done.returncode, done.stdout) == (1, "")
            assert f"{to}/journal" in done.stderr
            assert "make room there, or name another folder" in done.stderr
            assert "state/journal" not in done.stderr
            assert [path for path in (to / "journal").iterdir() if path.suffix != ".db"] == []
        ballast.unlink()
        done = run_arcgate("journal", "backup", to, "--config", config)
        assert done.returncode == 0, done.stderr


async def test_a_journal_that_is_gone_is_forgotten_and_another_begun(gateway: Gateway) -> None:
    await gateway.send(sia("1234", "Nri1/BA5", 1))
    (told,) = gateway.told("journal", "verify")
    old = told["journal"]
    done = gateway.arcgate("journal", "forget", old, "--yes")
    assert done.returncode == 1
    assert "Stop the gateway, move that folder away" in done.stderr
    assert "Redis knows no main-00000000; it knows main-" in gateway.arcgate("journal", "forget", "main-00000000").stderr

    gateway.stop()
    (gateway.state_dir / "journal").rename(gateway.state_dir / "old")
    gateway.start()
    asked = run_arcgate("journal", "forget", old, "--config", gateway.config, stdin=b"n\n")
    assert (asked.returncode, asked.stdout.strip()) == (1, "")
    assert "1 entries are dispatched; any behind them will not be." in asked.stderr
    assert gateway.told("journal", "forget", old, "--yes") == [{"journal": old, "cursor": 1}]
    assert gateway.arcgate("journal", "forget", old, "--yes").returncode == 1

    gateway.stop()
    gateway.start()
    await gateway.send(sia("1234", "Nri1/BA6", 1))
    (alarm,) = gateway.told("alarms", "list")
    assert (alarm["events"], alarm["id"].startswith(old)) == (2, True)
