"""Whatever is done to the files of a journal or a register behind its back, `verify` says where."""

import asyncio
import json
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from arcgate.__main__ import app
from dispatch.alarm_queue import AlarmQueue, connect
from receiver.config import Guarantees
from receiver.ledger import Ledger, LedgerReader, Tombstone
from receiver.segment import chain, path_of, segments
from tests.conftest import CONFIG, run_arcgate
from tests.valkey import Valkey

KEY = b"a secret"
ENTRIES = 400
BODY = "x" * 400
SMALL = Guarantees(segment_bytes=65_536)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="arcgate-") as folder:  # short enough for the path of a unix socket
        server = Valkey(Path(folder))
        server.start()
        yield server
        server.stop()


class Centre:
    """A state folder in which nothing runs, with a journal and a register of several files, and a Redis that has seen them."""

    def __init__(self, home: Path, redis_url: str, key: bytes) -> None:
        self.home, self.redis_url, self.key, self.centre = home, redis_url, key, secrets.token_hex(6)
        self.configure(f'digest_key = "ascii:{key.decode()}"' if key else "")
        for what in ("journal", "register"):
            with closing(Ledger(home / "state" / what, SMALL, key)) as ledger:
                for n in range(0, ENTRIES, 50):
                    ledger.insert(ledger.chain([f'{{"n":{n + m},"x":"{BODY}"}}'.encode() for m in range(1, 51)]))
        self.files = [first for first, _ in segments(self.folder("journal"))]
        assert len(self.files) == 3, "or the entries are too small"
        with closing(LedgerReader(self.folder("journal"))) as reader:
            self.id = reader.id
            self.digests = {position: digest.hex() for position in range(1, ENTRIES + 1) if (digest := reader.digest(position))}

    def configure(self, key: str, url: str = "") -> None:
        """Write arcgate.toml. url: of another Redis."""
        redis = f'[redis]\nurl = "{url or self.redis_url}"\ncentre = "{self.centre}"'
        (self.home / "arcgate.toml").write_text(f"{key}\n{CONFIG}\n{redis}\n")

    def folder(self, what: str) -> Path:
        return self.home / "state" / what

    def dispatched(self, position: int) -> None:
        """Let Redis have been fed up to a position, as dispatch does."""

        async def feed() -> None:
            async with connect(self.redis_url, Path()) as redis:
                queue = AlarmQueue(redis, self.centre)
                await queue.load()
                await queue.put(self.id, position, [], self.digests[position])
                with closing(LedgerReader(self.folder("register"))) as register:
                    digest = register.digest(position)
                    assert digest
                    await queue.replay(register.id, position, [], digest.hex())

        asyncio.run(feed())

    def verify(self, *words: str, what: str = "journal") -> dict[str, Any]:
        """What `verify --json` tells, in this process; its exit code and its message fit."""
        done = CliRunner().invoke(app, [what, "verify", "--json", *words, "--config", str(self.home / "arcgate.toml")])
        told: dict[str, Any] = json.loads(done.stdout)
        assert done.exit_code == (0 if told["ok"] else 1)
        assert (told["error"] or "") == done.stderr.strip()
        return told

    def alter(self, first: int, *statements: str, what: str = "journal") -> None:
        """Change the file that begins at `first`."""
        with closing(sqlite3.connect(path_of(self.folder(what), first))) as database, database:
            for statement in statements:
                database.execute(statement)

    def noted(self, what: str, position: int) -> str:
        """The digest of an entry, as it is now."""
        with closing(LedgerReader(self.folder(what))) as reader:
            return (reader.digest(position) or b"").hex()

    def rewrite(self, begin: int, key: bytes = b"", what: str = "journal") -> None:
        """Change an entry, and make all digests behind it, and what the files say of each other, anew."""
        digest = bytes.fromhex(self.noted(what, begin - 1))
        for first, path in segments(self.folder(what)):
            with closing(sqlite3.connect(path)) as database, database:
                if first > begin:
                    database.execute("UPDATE segment SET previous = ?", (digest,))
                found = database.execute(
                    "SELECT position, CAST(body AS BLOB) FROM entry WHERE position >= ? ORDER BY 1", (begin,)
                )
                for position, body in found.fetchall():
                    said = body.replace(b"x", b"y") if position == begin else body
                    digest = chain(digest, said, key)
                    values = (digest, said.decode(), position)
                    database.execute("UPDATE entry SET digest = ?, body = ? WHERE position = ?", values)


@pytest.fixture
def centre(tmp_path: Path, valkey: Valkey) -> Centre:
    return Centre(tmp_path, valkey.url, b"")


@pytest.fixture
def keyed(tmp_path: Path, valkey: Valkey) -> Centre:
    return Centre(tmp_path, valkey.url, KEY)


@pytest.mark.parametrize("what", ["journal", "register"])
def test_what_is_whole_is_compared_with_redis_and_with_each_note(centre: Centre, what: str) -> None:
    told = centre.verify(what=what)
    assert (told["ok"], told["entries"], told["first"], told["error"], told["entry"]) == (True, ENTRIES, 1, None, None)
    assert told["compared"] == []
    assert told["not_compared"] == [f"Redis: it knows nothing of this {what}"]

    centre.dispatched(300)
    if what == "register":
        (known,) = centre.verify(what=what)["compared"]
        assert (known["source"], known["position"], known["digest"]) == ("redis", 300, centre.noted(what, 300))
        return
    heads = [f"--head={n}:{centre.digests[n].upper()}" for n in (1, 400)]
    told = centre.verify(*heads)
    assert (told["ok"], told["digest"], told["not_compared"]) == (True, centre.digests[400], [])
    assert [(one["source"], one["position"]) for one in told["compared"]] == [("redis", 300), ("head", 1), ("head", 400)]
    page = run_arcgate("journal", "verify", *heads, "--config", centre.home / "arcgate.toml").stdout.splitlines()
    assert page[0] == f"{centre.id}: 400 entries, head digest {centre.digests[400]}: unaltered"
    assert page[1:] == [
        "compared with Redis: the digest of entry 300",
        "compared with --head: the digest of entry 1",
        "compared with --head: the digest of entry 400",
    ]


def flipped_byte(centre: Centre, what: str) -> None:
    path = path_of(centre.folder(what), centre.files[1])
    data = bytearray(path.read_bytes())
    data[data.index(b'{"n":200,') + 20] ^= 1
    path.write_bytes(data)


def dropped_entry(centre: Centre, what: str) -> None:
    centre.alter(centre.files[1], "DELETE FROM entry WHERE position = 200", what=what)


def dropped_entry_and_the_gap_closed(centre: Centre, what: str) -> None:
    move = "UPDATE entry SET position = {} WHERE position = {}"
    moved = (move.format(n - 1, n) for n in range(201, centre.files[2]))
    centre.alter(centre.files[1], "DELETE FROM entry WHERE position = 200", *moved, what=what)


def swapped_entries(centre: Centre, what: str) -> None:
    move = "UPDATE entry SET position = {} WHERE position = {}"
    places = ((-1, 200), (200, 201), (201, -1))
    centre.alter(centre.files[1], *(move.format(to, origin) for to, origin in places), what=what)


def dropped_segment(centre: Centre, what: str) -> None:
    path_of(centre.folder(what), centre.files[1]).unlink()


def dropped_first_segment(centre: Centre, what: str) -> None:
    path_of(centre.folder(what), 1).unlink()


def dropped_last_segment(centre: Centre, what: str) -> None:
    path_of(centre.folder(what), centre.files[2]).unlink()


def cut_tail(centre: Centre, what: str) -> None:
    centre.alter(centre.files[2], "DELETE FROM entry WHERE position > 350", what=what)


ALTERATIONS = [
    (flipped_byte, 200, "entry 200 was altered"),
    (dropped_entry, 200, "entry 200 is missing: entry 201 follows 199"),
    (dropped_entry_and_the_gap_closed, 200, "entry 200 was altered"),
    (swapped_entries, 200, "entry 200 was altered"),
    (dropped_segment, 151, "entries 151 to 300 are missing: "),
    (dropped_first_segment, 1, "entries 1 to 150 are missing: "),
    (dropped_last_segment, 301, "entries 301 to 400 were here and are cut off"),
    (cut_tail, 351, "entries 351 to 400 were here and are cut off"),
]
"""What is done to a ledger, the entry that verify has to name, and what it says of it."""


@pytest.mark.parametrize("what", ["journal", "register"])
@pytest.mark.parametrize(("alter", "position", "said"), ALTERATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_was_altered_is_named(
    centre: Centre, alter: Callable[[Centre, str], None], position: int, said: str, what: str
) -> None:
    centre.dispatched(400)
    alter(centre, what)
    told = centre.verify(what=what)
    assert (told["ok"], told["entry"]) == (False, position)
    assert said in told["error"]
    assert told["entries"] < position


def test_a_cut_tail_is_found_by_a_note_alone_and_else_it_is_said_that_nothing_was_compared(centre: Centre) -> None:
    centre.configure("", url="unix:///nobody/here.sock")
    cut_tail(centre, "journal")
    told = centre.verify()
    assert (told["ok"], told["entries"], told["compared"]) == (True, 350, [])
    (away,) = told["not_compared"]
    assert "Redis: Redis at unix:///nobody/here.sock gives no answer" in away
    told = centre.verify(f"--head=400:{centre.digests[400]}")
    assert (told["ok"], told["entry"]) == (False, 351)


def test_a_rewritten_file_is_found_by_the_one_behind_it(centre: Centre) -> None:
    whole = path_of(centre.folder("journal"), centre.files[2]).read_bytes()
    centre.rewrite(200)
    path_of(centre.folder("journal"), centre.files[2]).write_bytes(whole)
    told = centre.verify()
    assert (told["ok"], told["entry"]) == (False, 301)
    assert "not chained to what stands before it: entry 300 or this file was rewritten" in told["error"]


@pytest.mark.parametrize("what", ["journal", "register"])
def test_a_history_rewritten_to_its_end_is_found_by_redis_and_by_a_note(centre: Centre, what: str) -> None:
    before, later = centre.noted(what, 199), centre.noted(what, 250)
    centre.dispatched(400)
    centre.rewrite(200, what=what)
    told = centre.verify(what=what)
    assert (told["ok"], told["entry"]) == (False, 400)
    centre.configure("", url="unix:///nobody/here.sock")
    assert centre.verify(what=what)["ok"], "or the digests were not recomputed"
    told = centre.verify(f"--head=199:{before}", f"--head=250:{later}", what=what)
    assert (told["ok"], told["entry"]) == (False, 250)


def test_with_a_key_nobody_else_can_make_the_digests(keyed: Centre) -> None:
    assert keyed.verify()["ok"]
    keyed.rewrite(200)
    told = keyed.verify()
    assert (told["ok"], told["entry"]) == (False, 200)


def test_a_key_that_is_not_the_one_it_was_written_with_is_thought_of(keyed: Centre) -> None:
    for key in ('digest_key = "hex:00"', ""):
        keyed.configure(key)
        told = keyed.verify()
        assert (told["ok"], told["entry"]) == (False, 1)
        assert told["error"].endswith("or `digest_key` is not what it was written with")


def test_what_retention_has_deleted_is_told_and_its_notes_with_it(keyed: Centre) -> None:
    with closing(Ledger(keyed.folder("journal"), SMALL, KEY)) as ledger:
        (stone,) = ledger.drop_old(1, needed=200, now=datetime(2100, 1, 1, tzinfo=UTC))
    assert stone.last == 150
    keyed.dispatched(400)
    told = keyed.verify(f"--head=100:{keyed.digests[100]}")
    assert (told["ok"], told["first"], told["entries"]) == (True, 151, ENTRIES)
    assert told["not_compared"] == ["--head: the digest of entry 100: retention has deleted it"]
    page = run_arcgate("journal", "verify", "--config", keyed.home / "arcgate.toml").stdout
    assert ": 400 entries (1 to 150 deleted by retention), head digest " in page


def test_a_forged_tombstone_is_found_with_a_key_and_one_that_does_not_fit_without(keyed: Centre, tmp_path: Path) -> None:
    path = path_of(keyed.folder("journal"), 1)
    path.unlink()
    stone = Tombstone(keyed.id, 1, 150, keyed.digests[150], datetime.now(UTC))
    for forged in (stone, msgspec.structs.replace(stone, mac=stone.sealed(b"another"))):
        path.with_suffix(".dropped").write_bytes(msgspec.json.encode(forged))
        told = keyed.verify()
        assert (told["ok"], told["entry"]) == (False, 1)
        assert "the tombstone of entries 1 to 150 was altered" in told["error"]
    (tmp_path / "plain").mkdir()
    plain = Centre(tmp_path / "plain", keyed.redis_url, b"")
    path = path_of(plain.folder("journal"), 1)
    path.unlink()
    path.with_suffix(".dropped").write_bytes(msgspec.json.encode(msgspec.structs.replace(stone, id=plain.id)))
    told = plain.verify()
    assert (told["ok"], told["entry"]) == (False, 151)


def test_redis_and_a_note_that_disagree_are_told(centre: Centre) -> None:
    centre.dispatched(300)
    told = centre.verify(f"--head=300:{'0' * 64}")
    assert (told["ok"], told["entry"]) == (False, 300)
    assert "Redis and --head have different digests of it" in told["error"]


@pytest.mark.parametrize("head", ["", "300", "0:" + "0" * 64, "300:" + "0" * 63, "300:" + "g" * 64])
def test_a_note_that_cannot_be_one_is_refused(centre: Centre, head: str) -> None:
    done = run_arcgate("journal", "verify", "--head", head, "--config", centre.home / "arcgate.toml")
    assert done.returncode == 2
    assert "write POSITION:DIGEST" in done.stderr


def test_a_redis_that_does_not_answer_is_waited_for_two_seconds(centre: Centre, valkey: Valkey) -> None:
    valkey.freeze()
    try:
        told = centre.verify()
    finally:
        valkey.thaw()
    assert (told["ok"], told["not_compared"]) == (True, ["Redis: no answer within 2 s"])
