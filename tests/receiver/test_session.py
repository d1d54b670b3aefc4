"""One panel's conversation over a real socket: what is answered, when, in which order, and what is not."""

import asyncio
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from protocols.dc09 import Dc09Link, Frame, build
from protocols.link import Received
from protocols.surgard import SurGard
from receiver.conversation import NOISE_BYTES_MAX, UNANSWERED_MAX
from receiver.journal import Journal, JournalReader
from receiver.session import Session
from tests.receiver.conftest import Door, OpenDoor, ack, event, fill_disk, held, listen, null, stored, until

DAMAGED = event(1).replace(b"BA005", b"BA006")
MIXED = [event(1), null(2), event(3), null(4), null(5), event(6)]
ANSWERS = [ack(n) for n in range(1, 7)]


def session(door: Door) -> Session:
    """The only connection's receiving side."""
    (one,) = door.listener._sessions
    return one


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
async def test_replies_come_in_the_order_of_the_frames_however_they_are_cut(door: Door, state_dir: Path, size: int) -> None:
    panel = await door.panel()
    stream = b"".join(MIXED) * 5
    for piece in [stream[at : at + size] for at in range(0, len(stream), size)]:
        panel.send(piece)
        await panel.writer.drain()
        await asyncio.sleep(0)
    assert await panel.replies(30) == ANSWERS * 5
    assert stored(state_dir) == [frame.decode() for frame in (MIXED[0], MIXED[2], MIXED[5])] * 5
    assert door.listener.counts == {"connections": 1, "messages": 15, "link_tests": 15, "answered": 30}


async def test_the_frames_of_one_read_share_one_commit(door: Door, state_dir: Path) -> None:
    panel = await door.proven()
    reader = JournalReader(state_dir)
    before = reader.changed()
    panel.send(b"".join(MIXED))
    assert await panel.replies(6) == ANSWERS
    assert reader.changed() == before + 1
    reader.close()


async def test_nothing_is_answered_before_the_commit_and_a_link_test_waits_its_turn(
    door: Door, journal: Journal, state_dir: Path
) -> None:
    panel, other = await door.proven(), await door.proven()
    with held(journal):
        panel.send(event(2), null(3))
        await until(lambda: door.listener.counts["link_tests"] == 3)
        other.send(null(4))
        assert await other.replies(1) == [ack(4)]
        assert panel.heard == b""
        assert stored(state_dir) == []
    assert await panel.replies(2) == [ack(2), ack(3)]
    assert stored(state_dir) == [event(2).decode()]


async def test_a_failed_journal_answers_nobody_and_closes_nobody(door: Door, journal: Journal) -> None:
    panel, other = await door.proven(), await door.proven()
    fill_disk(journal)
    for n in range(2, 200):
        panel.send(event(n) * 20)
    await until(lambda: not journal.writable)
    await until(lambda: panel.heard.count(b"\r") == journal.durable)
    other.send(null(2))
    await until(lambda: door.listener.counts["link_tests"] == 3)
    other.send(build(Frame(id_token="SIA-XYZ", sequence="0003", account="")))
    await until(lambda: door.listener.counts["rejected_unknown_token"])
    new = await door.panel()
    new.send(null(1), event(2))
    await until(lambda: door.listener.counts["link_tests"] == 4)
    assert (other.heard, new.heard) == (b"", b"")
    assert door.listener.connections == 3
    assert panel.heard.count(b"\r") == journal.durable


async def test_a_refused_report_is_stored_before_its_answer(door: Door, journal: Journal, state_dir: Path) -> None:
    panel = await door.proven()
    frame = build(Frame(id_token="SIA-XYZ", sequence="0007", account="1234", data="hold-up"))
    with held(journal):
        panel.send(frame)
        await until(lambda: door.listener.counts["rejected_unknown_token"])
        assert panel.heard == b""
    assert await panel.replies(1) == [ack(7, word="DUH")]
    reader = JournalReader(state_dir)
    (entry,) = reader.read(0, 10)
    reader.close()
    assert (entry.report.frame, entry.report.error and entry.report.error.reason) == (frame.decode(), "unknown_token")
    assert (entry.report.listener, entry.report.peer) == ("ip", "{}:{}".format(*panel.writer.get_extra_info("sockname")))


async def test_damage_is_silence_and_the_connection_stays_open(door: Door) -> None:
    panel = await door.panel()
    with capture_logs() as logs:
        panel.send(DAMAGED, b"noise", event(2))
        assert await panel.replies(1) == [ack(2)]
    told = [line["error"].reason for line in logs if line["event"] == "frame_rejected"]
    assert told == ["crc", "noise"]


async def test_64_kb_of_noise_harm_nothing_and_too_much_of_it_closes(door: Door) -> None:
    panel = await door.panel()
    panel.send(b"\x16\x03\x01GET / \n\n0000\r" * 4096, null(1))
    assert await panel.replies(1) == [ack(1)]
    assert session(door)._link.noise_bytes == 0
    with capture_logs() as logs:
        panel.send(b"x" * (NOISE_BYTES_MAX + 1))
        assert await panel.ended()
        await until(lambda: not door.listener.connections)
    assert [line["why"] for line in logs if line["event"] == "peer_closed"] == ["too much noise: no whole frame in it"]


async def test_too_many_damaged_frames_without_a_whole_one_close(door: Door) -> None:
    panel = await door.proven()
    panel.send(DAMAGED * (NOISE_BYTES_MAX // len(DAMAGED) + 1000))
    assert await panel.ended()


async def test_frames_between_the_noise_keep_a_connection_open(door: Door) -> None:
    panel = await door.panel()
    for n in range(1, 13):
        panel.send(b"y" * (NOISE_BYTES_MAX // 8), null(n))
        assert await panel.replies(1) == [ack(n)]


async def test_a_refusal_is_logged_once_a_minute_for_each_reason_and_the_rest_is_counted(door: Door) -> None:
    panel = await door.panel()
    with capture_logs() as logs:
        panel.send(DAMAGED * 100, null(1))
        assert await panel.replies(1) == [ack(1)]
        panel.close()
        await until(lambda: not door.listener.connections)
        door.listener.intake.lines.flush()
    assert [line["event"] for line in logs] == ["frame_rejected", "link_test", "lines_not_logged"]
    assert (logs[2]["of"], logs[2]["cause"], logs[2]["host"], logs[2]["count"]) == ("frame_rejected", "crc", "127.0.0.1", 99)
    assert door.listener.counts["rejected_crc"] == 100


async def test_each_other_protocol_of_an_address_is_named_once_a_minute(door: Door) -> None:
    """Behind one address a scanner must not hide the panel that is set to something else."""
    scanner, galaxy = b"GET / HTTP/1.1\r\n\r\n", b"F#001234\r\n"
    with capture_logs() as logs:
        for data in (scanner, galaxy, scanner):
            panel = await door.panel()
            panel.send(data)
            panel.close()
            await until(lambda: not door.listener.connections)
        door.listener.intake.lines.flush()
    assert [line["error"].message[:5] for line in logs if line["event"] == "frame_rejected"] == ["HTTP:", "raw S"]
    assert [line["cause"] for line in logs if line["event"] == "lines_not_logged"] == ["foreign: HTTP"]


async def test_only_the_first_link_test_of_a_connection_is_logged(door: Door) -> None:
    with capture_logs() as logs:
        panel = await door.panel()
        panel.send(null(1) * 50)
        await panel.replies(50)
    assert [line["account"] for line in logs if line["event"] == "link_test"] == ["1234"]


@pytest.mark.parametrize("left", [event(2)[:30], event(2)[:-1], b"\n12", b"GET / HTTP/1.1"])
async def test_a_connection_cut_in_mid_frame_is_told_and_harms_no_other(door: Door, state_dir: Path, left: bytes) -> None:
    panel, other = await door.proven(), await door.proven()
    with capture_logs() as logs:
        panel.send(event(1), left)
        assert await panel.replies(1) == [ack(1)]
        panel.close()
        await until(lambda: door.listener.connections == 1)
    assert [line["frame"].strip() for line in logs] == [left.decode().strip()]
    other.send(event(2))
    assert await other.replies(1) == [ack(2)]
    assert len(stored(state_dir)) == 2


async def test_who_has_said_all_is_answered_and_then_closed(door: Door, journal: Journal) -> None:
    panel, other = await door.panel(), await door.panel()
    with held(journal):
        panel.send(event(1), null(2))
        panel.writer.write_eof()
        other.send(null(3))
        other.writer.write_eof()
        assert await other.reader.read(-1) == ack(3)
        assert panel.heard == b""
    assert await panel.reader.read(-1) == ack(1) + ack(2)
    await until(lambda: not door.listener.connections)


async def test_who_leaves_before_the_commit_is_stored_and_harms_no_other(door: Door, journal: Journal, state_dir: Path) -> None:
    panel, other = await door.proven(), await door.proven()
    with held(journal):
        panel.send(event(1) * UNANSWERED_MAX)
        await until(lambda: door.listener.counts["messages"] == UNANSWERED_MAX)
        other.send(event(1))
        await until(lambda: door.listener.counts["messages"] == UNANSWERED_MAX + 1)
        panel.writer.transport.abort()
        next(iter(door.listener._sessions)).close("it is not read, so its end is not seen")
        await until(lambda: door.listener.connections == 1)
    assert await other.replies(1) == [ack(1)]
    assert len(stored(state_dir)) == UNANSWERED_MAX + 1


async def test_a_peer_is_not_read_further_while_too_much_waits_for_the_disk(door: Door, journal: Journal) -> None:
    panel, other = await door.proven(), await door.proven()
    counts = door.listener.counts
    with held(journal):
        panel.send(*map(event, range(UNANSWERED_MAX)))
        await until(lambda: counts["messages"] == UNANSWERED_MAX)
        panel.send(event(2000), null(2001))
        for n in range(10):
            other.send(null(n))
            assert await other.replies(1) == [ack(n)]
        assert (counts["messages"], counts["link_tests"]) == (UNANSWERED_MAX, 12)
    assert await panel.replies(UNANSWERED_MAX + 2) == [ack(n) for n in (*range(UNANSWERED_MAX), 2000, 2001)]


async def test_a_peer_that_never_reads_its_answers_is_not_read_either(door: Door) -> None:
    """The receiver holds little for it, however much it sends; when it reads at last, every answer is there, in order."""
    panel = await door.panel(receive_bytes=4096)
    panel.send(b"".join(map(null, range(10_000))) * 20)
    held_bytes: list[int] = []

    def is_paused() -> bool:
        held_bytes.append(session(door).transport.get_write_buffer_size())
        return not session(door).transport.is_reading()

    await until(is_paused)
    read = door.listener.counts["link_tests"]
    await door.proven()
    assert door.listener.counts["link_tests"] == read + 1 < 200_000
    assert max(held_bytes) < 1024 * 1024
    answers = b"".join(map(ack, range(10_000)))
    for _ in range(20):
        assert await panel.reader.readexactly(len(answers)) == answers


async def test_a_fault_over_one_peers_bytes_costs_no_other_his_answer(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    panel, other = await door.proven(), await door.proven()
    receive = Dc09Link.receive

    def faulty(link: Dc09Link, data: bytes, now: datetime) -> list[Received]:
        if data == b"bomb":
            raise AssertionError("a fault of ours")
        return receive(link, data, now)

    monkeypatch.setattr(Dc09Link, "receive", faulty)
    with capture_logs() as logs:
        panel.send(b"bomb")
        other.send(event(2))
        assert await other.replies(1) == [ack(2)]
        await until(lambda: door.listener.connections == 1)
    assert [line["event"] for line in logs] == ["session_failed", "peer_closed"]


async def test_a_receiver_s_line_that_no_sign_ends_is_answered_after_a_short_silence(open_door: OpenDoor) -> None:
    door = await open_door(msgspec.structs.replace(listen(), protocol=SurGard(end="none")))
    panel = await door.panel()
    panel.send(b"5011 181234E13001004")
    async with asyncio.timeout(2):
        assert await panel.reader.readexactly(1) == b"\x06"
    panel.send(b"\x145011 181234R13001004\x14")
    async with asyncio.timeout(2):
        assert await panel.reader.readexactly(1) == b"\x06"
    assert door.listener.counts["messages"] == 2
