"""Open doors: who may come in, how many, how long, and what is said where the door cannot be opened."""

import asyncio
import socket
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from receiver.journal import Journal
from receiver.listen import KEEPALIVE_IDLE_S, ListenError, TcpListener
from tests.receiver.conftest import Door, OpenDoor, ack, event, intake, listen, null, policies, until


async def test_a_peer_that_sends_no_frame_is_closed_and_a_panel_stays(open_door: OpenDoor) -> None:
    door = await open_door(listen(idle_s=0.1))
    panel, silent, noisy, slow = [await door.panel() for _ in range(4)]
    with capture_logs() as logs:
        panel.send(null(1))
        noisy.send(b"GET / HTTP/1.1\r\n\r\n")
        slow.send(event(1)[:20])
        assert [await peer.ended() for peer in (silent, noisy, slow)] == [True] * 3
        await until(lambda: door.listener.connections == 1)
        door.listener.intake.lines.flush()
    told = [line for line in logs if line["event"] in {"peer_closed", "lines_not_logged"}]
    assert (told[0]["why"], told[1]["of"], told[1]["count"]) == ("no frame in idle_s = 0.1 s", "peer_closed", 2)
    panel.send(null(2))
    assert await panel.replies(2) == [ack(1), ack(2)]


async def test_a_damaged_frame_proves_nothing(open_door: OpenDoor) -> None:
    door = await open_door(listen(idle_s=0.1))
    panel = await door.panel()
    panel.send(event(1).replace(b"BA005", b"BA006"))
    assert await panel.ended()


async def test_beyond_connections_max_the_oldest_that_sent_no_frame_goes(open_door: OpenDoor) -> None:
    door = await open_door(listen(connections_max=3))
    first, second, third = await door.proven(), await door.panel(), await door.panel()
    with capture_logs() as logs:
        fourth = await door.proven()
        assert await second.ended()
        fifth = await door.proven()
        assert await third.ended()
    assert {line["why"] for line in logs if line["event"] == "peer_closed"} == {
        "connections_max = 3 is reached: raise it if these are all panels"
    }
    await door.proven()
    assert await first.ended()
    await until(lambda: door.listener.connections == 3)
    for panel in (fourth, fifth):
        panel.send(null(2))
        assert await panel.replies(1) == [ack(2)]
    assert door.listener.counts["connections"] == 6


async def test_a_crowd_of_connections_at_once_stays_within_the_bound(open_door: OpenDoor) -> None:
    door = await open_door(listen(connections_max=20))
    connections = [socket.create_connection(door.address) for _ in range(200)]
    await until(lambda: door.listener.counts["connections"] == 200)
    await until(lambda: door.listener.connections == 20)
    await door.proven()
    for connection in connections:
        connection.close()


async def test_idle_connections_leave_a_panel_undisturbed(open_door: OpenDoor) -> None:
    door = await open_door(listen(connections_max=2000))
    connections = [socket.create_connection(door.address) for _ in range(400)]
    await until(lambda: door.listener.connections == 400)
    panel = await door.proven()
    panel.send(event(2))
    assert await panel.replies(1) == [ack(2)]
    for connection in connections:
        connection.close()
    await until(lambda: door.listener.connections == 1)


async def test_ipv6_is_listened_on_and_written_in_brackets(open_door: OpenDoor) -> None:
    door = await open_door(listen("[::1]:0"))
    with capture_logs() as logs:
        panel = await door.proven()
    host, port = panel.writer.get_extra_info("sockname")[:2]
    assert [line["peer"] for line in logs] == [f"[{host}]:{port}"]
    assert door.listener.addresses[0].startswith("[::1]:")
    assert not door.listener.addresses[0].endswith(":0")


async def test_a_name_is_listened_on_at_each_of_its_addresses(open_door: OpenDoor) -> None:
    door = await open_door(listen("localhost:0"))
    assert any(address.startswith("127.0.0.1:") for address in door.listener.addresses)
    await door.proven()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("{used}", "address already in use"),
        ("192.0.2.1:0", "cannot assign requested address"),
        ("no-such-host.invalid:0", "name"),
        (f"{'x' * 70}.invalid:0", ""),
    ],
)
async def test_an_address_that_cannot_be_listened_on_is_refused_in_words(
    journal: Journal, open_door: OpenDoor, address: str, why: str
) -> None:
    door = await open_door(listen())
    address = address.format(used=door.listener.addresses[0])
    with pytest.raises(ListenError) as told:
        await TcpListener(listen(address), intake(journal), policies).open()
    assert str(told.value).startswith(f"listener[ip].address: cannot listen on {address}: ")
    assert why in str(told.value).lower()
    assert "is another program on that port" in str(told.value)


async def test_a_panel_that_vanished_is_noticed_by_keepalive(door: Door) -> None:
    await door.proven()
    (session,) = door.listener._sessions
    connection = session.transport.get_extra_info("socket")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE_S


async def test_refuse_new_lets_nobody_in_and_reads_nobody(door: Door) -> None:
    panel, address = await door.proven(), door.address
    door.listener.refuse_new()
    panel.send(null(2))
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*address)
    assert door.listener.counts["link_tests"] == 1


async def test_a_connection_that_comes_in_the_moment_of_the_end_is_closed(journal: Journal) -> None:
    """The loop may run other tasks between accepting a connection and handing it over."""
    listener = TcpListener(listen(), intake(journal), policies)
    await listener.open()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    here, there = socket.socketpair()

    def end() -> None:
        listener.refuse_new()
        ended.set()

    loop.add_reader(here, lambda: (loop.remove_reader(here), loop.call_soon(end)))
    await asyncio.sleep(0.01)
    there.send(b"the end")
    with here, there, socket.create_connection(Door(listener).address) as connection:
        connection.setblocking(False)
        await ended.wait()
        with suppress(ConnectionResetError):
            assert await loop.sock_recv(connection, 10) == b""
    assert listener.connections == 0
