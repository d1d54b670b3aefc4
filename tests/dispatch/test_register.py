"""The register on disk: what people did, once, in order, and again after any end."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.alarm import Priority
from dispatch.alarm_queue import AlarmQueue
from dispatch.register import NO_ID, Act, Register, RegisterReader, order
from receiver.config import Guarantees
from receiver.ledger import LedgerError
from tests.dispatch.desk import Follower, J, claim, event, fence

SMALL = Guarantees(node="north", segment_bytes=65_536)


def act(act_id: str, note: str = "", **others: str) -> Act:
    fields = {"act": "close", "alarm": "j-1-000000000001-0", "site": "bakery", "operator": "anna", "fence": "1795357315699553"}
    return Act.read(act_id, fields | {"events": "2", "priority": "3", "cursors": '{"j-1": 7}', "note": note} | others)


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    register = Register(tmp_path, SMALL)
    yield register
    register.close()


def kept(state_dir: Path, key: bytes = b"") -> list[Act]:
    """All acts, after verifying them, as another process would."""
    with closing(RegisterReader(state_dir, key)) as reader:
        head = reader.head()
        assert list(reader.verify())[-1] == head
        acts = reader.acts(0, 1_000_000)
        assert [position for position, _ in acts] == list(range(1, head + 1))
        return [act for _, act in acts]


def change(state_dir: Path, statement: str) -> None:
    """Alter the register's first file behind its back."""
    with closing(sqlite3.connect(state_dir / "register" / "000000000001.db")) as database, database:
        database.execute(statement)


async def test_what_people_do_is_kept_as_the_queue_tells_it(
    queue: AlarmQueue, follower: Follower, register: Register, tmp_path: Path
) -> None:
    await follower.put("s1", event(1, Priority.FIRE))
    released = await claim(queue, "alice")
    await queue.release(released.id, fence(released))
    closed = await claim(queue, "bob")
    await queue.close(closed.id, fence(closed), 1, "real", "Mme Dumont was there")
    told = await queue.acts("0", 0)

    assert register.append(Act.read(*one) for one in told) == 4
    acts = kept(tmp_path)
    assert [(act.act, act.operator, act.outcome, act.note) for act in acts] == [
        ("claim", "alice", "", ""),
        ("release", "alice", "", ""),
        ("claim", "bob", "", ""),
        ("close", "bob", "real", "Mme Dumont was there"),
    ]
    last = acts[-1]
    assert (last.id, last.alarm, last.site, last.fence) == (told[-1][0], closed.id, "s1", fence(closed))
    assert (last.events, last.priority, last.cursors, last.other) == (1, Priority.FIRE, {J: 1}, {})
    assert last.at_ms == int(told[-1][0].partition("-")[0])
    assert register.last_id == await queue.last_act()


def test_the_same_acts_given_again_are_kept_once(register: Register, tmp_path: Path) -> None:
    acts = [act("999-9"), act("999-10"), act("1000-0")]
    assert (register.last_id, register.append([])) == (NO_ID, 0)
    assert register.append(acts[:2]) == 2
    assert register.append(acts) == 3
    assert register.append([act("999-99"), act("1000-0"), act("no id"), *acts]) == 3
    assert (kept(tmp_path), register.last_id) == (acts, "1000-0")


@pytest.mark.parametrize("key", [b"", b"secret"])
def test_it_goes_on_where_it_ended(tmp_path: Path, key: bytes) -> None:
    ids = set()
    for begin in range(3):
        with closing(Register(tmp_path, SMALL, key)) as register:
            assert (register.position, register.last_id) == (2 * begin, f"{2 * begin}-0" if begin else NO_ID)
            register.append(act(f"{2 * begin + n}-0") for n in (1, 2))
            ids.add(register.id)
            with pytest.raises(LedgerError, match="another arcgate writes it"):
                Register(tmp_path, SMALL, key)
    assert [act.id for act in kept(tmp_path, key)] == [f"{n}-0" for n in range(1, 7)]
    assert len(ids) == 1
    assert ids.pop().startswith("north-")


def test_a_page_of_acts_is_full_across_files(register: Register, tmp_path: Path) -> None:
    for n in range(1, 41):
        register.append([act(f"{n}-0", "x" * 4096)])
    assert len(list((tmp_path / "register").glob("*.db"))) > 2
    with closing(RegisterReader(tmp_path)) as reader:
        assert [position for position, _ in reader.acts(3, 30)] == list(range(4, 34))
        assert [position for position, _ in reader.acts(35, 30)] == list(range(36, 41))
        assert reader.acts(40, 30) == []
        assert reader.last() == act("40-0", "x" * 4096)


def test_where_it_cannot_be_written_nothing_is_kept_and_it_can_be_tried_again(register: Register, tmp_path: Path) -> None:
    register.append([act("1-0")])
    database = register._ledger._segment._database
    database.execute("PRAGMA max_page_count = 1")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            register.append(act(f"{n}-0", "x" * 4096) for n in range(2, 200))
        assert (register.position, register.last_id) == (1, "1-0")
    database.execute("PRAGMA max_page_count = 1000000")
    assert register.append([act("2-0"), act("3-0")]) == 3
    assert [act.id for act in kept(tmp_path)] == ["1-0", "2-0", "3-0"]


def test_what_is_odd_in_an_act_is_kept_as_it_is(register: Register, tmp_path: Path) -> None:
    fields = {"act": "hold", "fence": "-", "events": "٣", "priority": "7", "cursors": "[1]", "reason": "guard on his way"}
    odd = Act.read("5-1", fields)
    assert odd == Act(
        "5-1", "hold", alarm="", site="", operator="", fence=0, events=0, priority=Priority.LOG, cursors={},
        other={name: text for name, text in fields.items() if name != "act"},
    )  # fmt: skip
    register.append([odd, Act.read("5-2", {})])
    assert [act.other for act in kept(tmp_path)] == [odd.other, {}]


def test_what_no_verb_would_have_taken_is_cut_and_stops_nothing(register: Register, tmp_path: Path) -> None:
    """In the file an escaped character is six times as long."""
    register.append([Act.read("5-1", {f"{n}": "\x01" * 1_000_000 for n in range(100)}), act("5-2", note="\x01" * 4_000_000)])
    odd, long = kept(tmp_path)
    assert (len(odd.other), {len(text) for text in odd.other.values()}, len(long.note)) == (32, {16_384}, 16_384)


@given(act_id=st.text(), fields=st.dictionaries(st.sampled_from([*Act.__struct_fields__, "x"]), st.text(max_size=30)))
def test_no_act_raises_and_none_loses_a_text(act_id: str, fields: dict[str, str]) -> None:
    read = Act.read(act_id, fields)
    assert msgspec.json.decode(msgspec.json.encode(read), type=Act) == read
    told = {name: str(getattr(read, name, "")) for name in fields} | {"cursors": msgspec.json.encode(read.cursors).decode()}
    for name, text in fields.items():
        assert read.other.get(name) == text or told[name] == text or (told[name].isdecimal() and int(told[name]) == int(text))
    assert order(act_id) >= order(NO_ID)


@pytest.mark.parametrize("body", ["'no json'", "CAST(x'7B22FF22' AS TEXT)", """replace(body, '"2-0"', '"2x"')"""])
def test_an_entry_that_cannot_be_read_is_told_and_holds_up_nothing(tmp_path: Path, body: str) -> None:
    with closing(Register(tmp_path, SMALL)) as register:
        register.append([act("1-0"), act("2-0")])
    change(tmp_path, f"UPDATE entry SET body = {body} WHERE position = 2")  # noqa: S608 - the test's own words
    with closing(RegisterReader(tmp_path)) as reader:
        first, altered = (act for _, act in reader.acts(0, 10))
        assert (first.id, altered.id, altered.act, altered.alarm) == ("1-0", NO_ID, "unreadable", "")
        assert "Entry 2 of the register cannot be read" in altered.note
        assert reader.last() == first
        with pytest.raises(LedgerError, match="entry 2 was altered"):
            list(reader.verify())
    with closing(Register(tmp_path, SMALL)) as register:
        assert register.last_id == "1-0"


def test_a_register_that_cannot_be_read_is_refused_and_leaves_its_lock(tmp_path: Path) -> None:
    Register(tmp_path, SMALL).close()
    change(tmp_path, "DROP TABLE segment")
    for _ in range(2):
        with pytest.raises(LedgerError, match="a damaged one is moved away and kept"):
            Register(tmp_path, SMALL)


def test_a_close_waits_for_the_threads_that_write(tmp_path: Path) -> None:
    """A task that is cancelled leaves its thread at work; a file that is closed under it takes the whole process down."""
    for n in range(20):
        register = Register(tmp_path, SMALL)
        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(register.append, [act(f"{n * 10 + m + 1}-{k}") for k in range(200)]) for m in range(4)]
            register.close()
        for each in writing:
            with suppress(LedgerError):
                each.result()
        with pytest.raises(LedgerError, match="closed"):
            register.append([act("999999-0")])
    ids = [order(each.id) for each in kept(tmp_path)]
    assert ids == sorted(set(ids))
