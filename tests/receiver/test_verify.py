"""Whatever is done to a ledger's files, verify names the first entry that is not what was written."""

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from receiver.ledger import Ledger, LedgerError, LedgerReader
from receiver.segment import chain, create, first_digest, path_of
from receiver.tombstone import Tombstone, tombstones
from tests.receiver.ledgers import add, altered, bodies, files, next_day, read, written

LATER = datetime.now(UTC) + timedelta(days=3)
KEYS = pytest.mark.parametrize("key", [b"", b"key"], ids=["plain", "keyed"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def kept(folder: Path, key: bytes = b"") -> dict[int, bytes]:
    """What somebody else knows of each entry."""
    with closing(LedgerReader(folder, key)) as reader:
        return {position: digest for after in range(reader.head()) for position, digest, _ in reader.rows(after, 1)}


def told(folder: Path, key: bytes = b"", anchors: dict[int, bytes] | None = None) -> tuple[int | None, str]:
    """What verify says of a ledger that is not what was written."""
    with closing(LedgerReader(folder, key)) as reader, pytest.raises(LedgerError) as raised:
        list(reader.verify((anchors or {}).items()))
    return raised.value.position, str(raised.value)


def rewrite(folder: Path, file: int, position: int, key: bytes = b"") -> bytes:
    """Alter an entry, and make all digests behind it in its file anew; gives the last one."""
    with altered(folder, file) as database:
        database.execute("UPDATE entry SET body = 'altered' WHERE position = ?", (position,))
        (digest,) = database.execute("SELECT previous FROM segment").fetchone()
        for n, body in database.execute("SELECT position, CAST(body AS BLOB) FROM entry ORDER BY position").fetchall():
            digest = chain(digest, body, key)
            database.execute("UPDATE entry SET digest = ? WHERE position = ?", (digest, n))
        return bytes(digest)


def execute(file: int, *statements: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        with altered(folder, file) as database:
            for statement in statements:
                database.execute(statement)

    return do


def swap_files(folder: Path) -> None:
    second, third, aside = path_of(folder, 4), path_of(folder, 7), folder / "aside"
    second.rename(aside)
    third.rename(second)
    aside.rename(third)


# ---- whole


@KEYS
def test_a_whole_ledger_is_walked_from_its_first_entry_to_its_head(folder: Path, key: bytes) -> None:
    written(folder, 3, 3, 3, key=key)
    with closing(LedgerReader(folder, key)) as reader:
        assert list(reader.verify(kept(folder, key).items())) == [3, 3, 6, 6, 9, 9]
        with closing(Ledger(folder, key=key)) as ledger:
            ledger.drop_old(1, 99, LATER)
            create(folder, ledger.id, 10, ledger.digest, datetime.now(UTC))
        assert list(reader.verify(kept(folder, key).items())) == [9, 9, 9]


def test_an_anchor_without_a_digest_stands_for_any(folder: Path) -> None:
    written(folder, 3, 3)
    with closing(LedgerReader(folder)) as reader:
        assert list(reader.verify([(2, b""), (6, b"")]))[-1] == 6
    assert told(folder, anchors={7: b""})[0] == 7


def test_other_calls_of_the_same_reader_do_not_disturb_it(folder: Path) -> None:
    written(folder, 3, 3, 3)
    with closing(LedgerReader(folder)) as reader:
        for _ in reader.verify():
            assert (reader.head(), reader.digest(1) is None) == (9, False)


# ---- not whole


@pytest.mark.parametrize(
    ("alter", "position", "said"),
    [
        (execute(4, "UPDATE entry SET body = 'x' WHERE position = 5"), 5, "was altered"),
        (execute(4, "UPDATE entry SET digest = zeroblob(32) WHERE position = 5"), 5, "was altered"),
        (execute(4, "UPDATE entry SET digest = 'text' WHERE position = 5"), 5, "was altered"),
        (execute(4, "DELETE FROM entry WHERE position = 5"), 5, "missing: entry 6 follows 4"),
        (execute(4, "DELETE FROM entry WHERE position > 5"), 6, "entries 6 to 6 are missing"),
        (execute(4, "DELETE FROM entry"), 4, "entries 4 to 6 are missing"),
        (execute(1, "DELETE FROM entry"), 1, "entries 1 to 3 are missing"),
        (execute(4, "UPDATE segment SET previous = zeroblob(32)"), 4, "not chained to what stands before it"),
        (execute(4, "UPDATE segment SET id = 'main-ffffffff'"), 4, "not chained to what stands before it"),
        (execute(4, "UPDATE segment SET first = 1"), 4, "not chained to what stands before it"),
        (execute(4, "UPDATE segment SET first = 'x'"), 4, "what the file says of itself is lost"),
        (execute(4, "DROP TABLE entry"), 4, "entry 4 cannot be read"),
        (lambda folder: rewrite(folder, 4, 5), 7, "entry 6 or this file was rewritten"),
        (lambda folder: path_of(folder, 1).unlink(), 1, "entries 1 to 3 are missing: a file was taken away"),
        (lambda folder: path_of(folder, 4).unlink(), 4, "entries 4 to 6 are missing: a file was taken away"),
        (lambda folder: path_of(folder, 4).rename(path_of(folder, 5)), 4, "entries 4 to 4 are missing"),
        (swap_files, 4, "not chained to what stands before it"),
        (lambda folder: shutil.copy(path_of(folder, 1), path_of(folder, 4)), 4, "not chained to what stands before it"),
        (lambda folder: path_of(folder, 4).write_bytes(b"no database" * 1000), 4, "not a database"),
    ],
)
@KEYS
def test_the_first_entry_that_is_not_what_was_written_is_named(
    folder: Path, key: bytes, alter: Callable[[Path], object], position: int, said: str
) -> None:
    written(folder, 3, 3, 3, key=key)
    alter(folder)
    if key and said == "entry 6 or this file was rewritten":
        position, said = 4, "entry 4 was altered"  # who has no key makes no digest that fits
    assert told(folder, key)[0] == position
    assert said in told(folder, key)[1]


@pytest.mark.parametrize(
    "alter", [execute(7, "DELETE FROM entry WHERE position > 7"), lambda folder: path_of(folder, 7).unlink()]
)
def test_a_tail_that_was_cut_is_seen_by_who_knew_it(folder: Path, alter: Callable[[Path], None]) -> None:
    written(folder, 3, 3, 3)
    anchors = kept(folder)
    alter(folder)
    end = len(read(folder))  # it verifies by itself
    assert end in {6, 7}
    assert told(folder, anchors=anchors) == (end + 1, f"{folder}: entries {end + 1} to 9 were here and are cut off")
    with closing(Ledger(folder)) as ledger:  # and what is then written over it is another entry
        ledger.insert(ledger.chain(bodies(*range(end, 10))))
    assert told(folder, anchors=anchors)[0] == end + 1
    assert "not the one that was known" in told(folder, anchors=anchors)[1]


def test_a_history_that_was_rewritten_to_its_end_is_seen_by_who_knew_one_entry_behind_it(folder: Path) -> None:
    written(folder, 3, 3, 3)
    anchors = kept(folder)
    for file, position in ((4, 5), (7, 99)):
        digest = rewrite(folder, file, position)
        if file == 4:
            with altered(folder, 7) as database:
                database.execute("UPDATE segment SET previous = ?", (digest,))
    assert len(read(folder)) == 9
    for known in range(5, 10):
        assert told(folder, anchors={2: anchors[2], known: anchors[known]})[0] == known


def test_nothing_is_unaltered_with_another_key(folder: Path) -> None:
    written(folder, 3, 3, key=b"key")
    for key in (b"", b"another"):
        assert told(folder, key)[0] == 1


# ---- tombstones


@pytest.fixture(params=[b"", b"key"], ids=["plain", "keyed"])
def dropped(folder: Path, request: pytest.FixtureRequest) -> tuple[bytes, dict[int, bytes]]:
    """A ledger of which retention has left the last file; its key, and what was known before."""
    written(folder, 3, 3, 3, key=request.param)
    anchors = kept(folder, request.param)
    with closing(Ledger(folder, key=request.param)) as ledger:
        ledger.drop_old(1, 99, LATER)
    assert files(folder) == [7]
    assert read(folder, request.param) == bodies(7, 8, 9)
    return request.param, anchors


def put(folder: Path, stone: Tombstone) -> None:
    path_of(folder, stone.first).with_suffix(".dropped").write_bytes(msgspec.json.encode(stone))


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({"id": "main-ffffffff"}, 4),
        ({"last": 5}, 6),
        ({"last": 3}, 4),
        ({"last": 7}, 4),
        ({"last": 900}, 4),
        ({"last": 8}, 4),
        ({"digest": "00" * 32}, 7),
        ({"digest": ""}, 7),
        ({"mac": "00"}, 4),
        ({"dropped_at": LATER + timedelta(days=1)}, None),
    ],
)
def test_a_tombstone_that_was_altered_is_found_with_a_key_always_and_without_by_what_stands_behind_it(
    folder: Path, dropped: tuple[bytes, dict[int, bytes]], fields: dict[str, object], plain: int | None
) -> None:
    key, _ = dropped
    stone = tombstones(folder)[4]
    put(folder, msgspec.structs.replace(stone, **fields))
    if key:
        assert told(folder, key)[0] == 4
    elif plain:
        assert told(folder)[0] == plain
    else:
        assert read(folder)  # when it was dropped, only a key seals


def test_tombstones_that_are_missing_or_too_many_are_found(folder: Path, dropped: tuple[bytes, dict[int, bytes]]) -> None:
    key, _ = dropped
    stones = tombstones(folder)
    for first in (1, 4):
        path_of(folder, first).with_suffix(".dropped").unlink()
        assert told(folder, key) == (
            first,
            f"{folder}: entries {first} to 6 are missing: a file was taken away, or entries of one",
        )
        put(folder, stones[first])
    stray = msgspec.structs.replace(stones[4], first=5)
    stray = msgspec.structs.replace(stray, mac=stray.sealed(key))
    put(folder, stray)
    assert told(folder, key) == (5, f"{folder}: the tombstone of entry 5 was put there: it fits nowhere")


def test_what_was_known_of_a_dropped_files_last_entry_is_compared(folder: Path, dropped: tuple[bytes, dict[int, bytes]]) -> None:
    key, anchors = dropped
    with closing(LedgerReader(folder, key)) as reader:
        assert list(reader.verify(anchors.items()))[-1] == 9
    assert told(folder, key, anchors | {6: b"\0" * 32}) == (4, f"{folder}: the tombstone of entries 4 to 6 was altered")


def test_a_forged_tombstone_in_the_place_of_a_file_is_found_by_its_seal(folder: Path) -> None:
    """Without a key, who may delete a file may also write what retention writes; a key is what prevents it."""
    ledger_id = written(folder, 3, 3, key=b"key")
    digest = kept(folder, b"key")[3]
    path_of(folder, 1).unlink()
    put(folder, Tombstone(ledger_id, 1, 3, digest.hex(), datetime.now(UTC)))
    assert told(folder, b"key") == (1, f"{folder}: the tombstone of entries 1 to 3 was altered")
    assert first_digest(ledger_id) != digest


@pytest.mark.parametrize(("file", "first"), [(0, 1), (1, 31), (2, 61)], ids=["first", "middle", "last"])
@pytest.mark.parametrize("left", [0, 100, 4096, 20_000])
def test_a_file_that_was_cut_is_named_with_the_first_entry_that_is_lost(folder: Path, file: int, first: int, left: int) -> None:
    with closing(Ledger(folder)) as ledger:
        for _ in range(3):
            next_day(ledger)
            add(ledger, *range(30), size=1000)
    path = path_of(folder, first)
    assert files(folder)[file] == first
    os.truncate(path, left)
    with pytest.raises(LedgerError) as raised, closing(LedgerReader(folder)) as reader:
        list(reader.verify())
    assert str(path) in str(raised.value)
    assert (raised.value.position or first) == first
    assert raised.value.position or left == 0, "it has become an empty file"
