"""TLS over real sockets, with certificates made here: who gets in, who is told why not, and a change of certificate."""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver import tls
from receiver.journal import Journal
from receiver.listen import ListenError, TcpListener
from receiver.tls import Certificates, TlsError
from tests.receiver.certificates import Certificate, trusting
from tests.receiver.conftest import Door, OpenDoor, Panel, ack, event, held, intake, listen, null, policies, stored, until

Enter = Callable[..., Awaitable[Panel]]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return Certificate("gateway").write(tmp_path / "tls")


@pytest.fixture
async def door(open_door: OpenDoor, files: tuple[str, str]) -> Door:
    return await open_door(secure(files))


def secure(files: tuple[str, str], **keys: Any) -> Any:
    return listen(transport="tls", certificate=files[0], private_key=files[1], **keys)


async def enter(door: Door, context: ssl.SSLContext) -> Panel:
    """Connect, and shake hands."""
    panel = Panel(*await asyncio.open_connection(*door.address, ssl=context))
    door.panels.append(panel)
    return panel


async def refused(door: Door, context: ssl.SSLContext) -> str:
    """Try to come in and send a link test; returns the gateway's word on why it was refused."""
    with capture_logs() as logs:
        try:
            panel = await enter(door, context)
            panel.send(null(1))
            assert await panel.ended()
        except OSError:
            pass
        await until(lambda: not door.listener.connections)
        await until(lambda: [line for line in logs if line["event"] == "tls_refused"])
    (told,) = [line["why"] for line in logs if line["event"] == "tls_refused"]
    return str(told)


async def test_a_report_goes_through_tls_and_is_stored_before_it_is_answered(
    door: Door, files: tuple[str, str], journal: Journal, state_dir: Path
) -> None:
    panel = await enter(door, trusting(files[0]))
    assert panel.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    with held(journal):
        panel.send(event(1), null(2))
        await until(lambda: door.listener.counts["link_tests"])
        assert panel.heard == b""
    assert await panel.replies(2) == [ack(1), ack(2)]
    assert stored(state_dir) == [event(1).decode()]


async def test_who_ends_before_the_answer_is_not_heard_further_and_harms_nobody(
    door: Door, files: tuple[str, str], journal: Journal, state_dir: Path
) -> None:
    panel = await enter(door, trusting(files[0]))
    with held(journal):
        panel.send(event(1))
        panel.close()
        await until(lambda: door.listener.counts["messages"])
    await until(lambda: not door.listener.connections)
    assert stored(state_dir) == [event(1).decode()]


async def test_much_both_ways_arrives_in_order(door: Door, files: tuple[str, str]) -> None:
    panel = await enter(door, trusting(files[0]))
    panel.send(b"".join(map(event, range(5_000))))
    assert await panel.replies(5_000) == list(map(ack, range(5_000)))


async def test_many_at_once_whose_first_frame_comes_right_behind_the_handshake(door: Door, files: tuple[str, str]) -> None:
    async def one(number: int) -> None:
        panel = await enter(door, trusting(files[0]))
        panel.send(event(number))
        assert await panel.replies(1) == [ack(number)]

    await asyncio.gather(*map(one, range(50)))


async def test_tls_1_2_is_enough_and_older_is_refused(door: Door, files: tuple[str, str]) -> None:
    context = trusting(files[0])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    panel = await enter(door, context)
    panel.send(null(1))
    assert await panel.replies(1) == [ack(1)]
    panel.close()
    await until(lambda: not door.listener.connections)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert await refused(door, old) == "its TLS is older than 1.2"


@pytest.mark.parametrize("said", [null(1), event(1), b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100])
async def test_who_speaks_no_tls_is_refused_in_words_once_a_minute(door: Door, state_dir: Path, said: bytes) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            panel = await door.panel()
            panel.send(said)
            assert b"ACK" not in await panel.reader.read(-1)
        await until(lambda: not door.listener.connections)
    (told,) = [line for line in logs if line["event"] == "tls_refused"]
    assert "plain HTTP" in told["why"] if said.startswith(b"GET") else "set the panel to TLS" in told["why"]
    assert told["peer"].startswith("127.0.0.1:")
    assert door.listener.counts["tls_refused"] == 3
    assert stored(state_dir) == []


async def test_who_says_nothing_is_refused_when_his_time_is_over(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_S_MAX", 0.05)
    with capture_logs() as logs:
        panel = await door.panel()
        assert await panel.ended()
        await until(lambda: not door.listener.connections)
    assert [line["event"] for line in logs] == ["tls_refused"]


async def test_hands_that_are_never_shaken_are_bounded_as_connections_are(open_door: OpenDoor, files: tuple[str, str]) -> None:
    door = await open_door(secure(files, connections_max=20))
    silent = [socket.create_connection(door.address) for _ in range(60)]
    for connection in silent[:5]:
        connection.send(b"\x16\x03\x01")
    await until(lambda: door.listener.counts["connections"] == 60)
    await until(lambda: door.listener.connections == 20)
    panel = await enter(door, trusting(files[0]))
    panel.send(null(1))
    assert await panel.replies(1) == [ack(1)]
    for connection in silent:
        connection.close()
    await until(lambda: door.listener.connections == 1)


async def test_a_tls_hello_on_a_plain_port_is_not_answered_and_told(open_door: OpenDoor) -> None:
    door = await open_door(listen(idle_s=0.1))
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(OSError, match=r".*"):
                await enter(door, ssl.create_default_context())
        await until(lambda: not door.listener.connections)
    (told,) = [line for line in logs if line["event"] == "frame_rejected"]
    assert told["frame"].startswith("\x16\x03")


async def test_a_certificate_is_changed_without_cutting_who_is_there(door: Door, files: tuple[str, str], tmp_path: Path) -> None:
    before = trusting(files[0])
    panel = await enter(door, before)
    Certificate("gateway, renewed", days=60).write(tmp_path / "tls")
    with capture_logs() as logs:
        door.listener.renew()
        assert logs == []  # two files are no pair until both are still
        door.listener.renew()
        door.listener.renew()
    assert [line["event"] for line in logs] == ["certificate_taken"]
    panel.send(event(1))
    assert await panel.replies(1) == [ack(1)]
    later = await enter(door, trusting(files[0]))
    later.send(null(2))
    assert await later.replies(1) == [ack(2)]
    with pytest.raises(ssl.SSLCertVerificationError):
        await enter(door, before)


async def test_a_certificate_that_cannot_be_used_leaves_the_one_before_in_use(
    door: Door, files: tuple[str, str], tmp_path: Path
) -> None:
    context = trusting(files[0])
    certificate, _ = Certificate("another").write(tmp_path / "other")
    Path(certificate).rename(files[0])  # noqa: ASYNC240 - a moment
    with capture_logs() as logs:
        for _ in range(4):
            door.listener.renew()
    (told,) = logs
    assert (told["event"], told["log_level"], told["key"]) == ("certificate_refused", "error", "private_key")
    assert "is not the key of" in told["error"]
    panel = await enter(door, context)
    panel.send(null(1))
    assert await panel.replies(1) == [ack(1)]
    with capture_logs() as logs:
        door.listener.renew(asked=True)
    assert [line["event"] for line in logs] == ["certificate_refused"]


@pytest.fixture
def panels(tmp_path: Path) -> Certificate:
    """Who signs the panels' certificates."""
    signer = Certificate("panels")
    signer.write(tmp_path / "tls", "panels")
    return signer


@pytest.fixture
async def exclusive(open_door: OpenDoor, files: tuple[str, str], tmp_path: Path, panels: Certificate) -> Door:
    assert panels
    return await open_door(secure(files, client_ca=str(tmp_path / "tls" / "panels.pem")))


async def test_with_client_ca_a_panel_shows_its_certificate_or_is_refused(
    exclusive: Door, files: tuple[str, str], tmp_path: Path, panels: Certificate, state_dir: Path
) -> None:
    own = Certificate("panel 1", panels).write(tmp_path / "panel")
    panel = await enter(exclusive, trusting(files[0], own))
    panel.send(event(1))
    assert await panel.replies(1) == [ack(1)]
    panel.close()
    await until(lambda: not exclusive.listener.connections)
    assert await refused(exclusive, trusting(files[0])) == "it shows no certificate, and client_ca wants one"
    stranger = Certificate("panel 1", Certificate("panels")).write(tmp_path / "stranger")
    assert (await refused(exclusive, trusting(files[0], stranger))).startswith("its certificate is refused: ")
    assert len(stored(state_dir)) == 1


async def test_whom_client_ca_has_signed_is_taken_anew_too(
    exclusive: Door, files: tuple[str, str], tmp_path: Path, panels: Certificate
) -> None:
    own = Certificate("panel 1", panels).write(tmp_path / "panel")
    Certificate("panels, of next year").write(tmp_path / "tls", "panels")
    exclusive.listener.renew(asked=True)
    assert "its certificate is refused" in await refused(exclusive, trusting(files[0], own))


async def test_a_stranger_is_closed_before_any_handshake(open_door: OpenDoor, files: tuple[str, str]) -> None:
    door = await open_door(secure(files, allow=("192.0.2.0/24",)))
    with capture_logs() as logs:
        with pytest.raises(OSError, match=r".*"):
            await enter(door, trusting(files[0]))
        await until(lambda: door.listener.counts["refused_source"])
    assert [line["event"] for line in logs] == ["source_refused"]
    assert door.listener.connections == 0


def _no_certificate(folder: Path) -> str:
    (folder / "tls.pem").write_text("hello")
    return "certificate: .*tls.pem: holds no certificate in PEM"


def _no_key(folder: Path) -> str:
    (folder / "tls.key").write_text("hello")
    return "private_key: .*tls.key: holds no private key in PEM, or one with a passphrase"


def _other_key(folder: Path) -> str:
    Certificate("other").write(folder, "other")
    (folder / "other.key").replace(folder / "tls.key")
    return "private_key: .*tls.key: is not the key of .*tls.pem"


def _open_key(folder: Path) -> str:
    (folder / "tls.key").chmod(0o644)
    return "private_key: .*tls.key: everybody may read it: chmod 640"


def _missing(folder: Path) -> str:
    (folder / "tls.pem").unlink()
    return "certificate: .*tls.pem: No such file or directory: may the user of arcgate read it"


def _no_ca(folder: Path) -> str:
    (folder / "panels.pem").write_text("")
    return "client_ca: .*panels.pem: holds no certificate in PEM"


@pytest.mark.parametrize("spoil", [_no_certificate, _no_key, _other_key, _open_key, _missing, _no_ca])
async def test_a_file_that_cannot_be_used_is_told_by_key_and_name(
    journal: Journal, files: tuple[str, str], tmp_path: Path, panels: Certificate, spoil: Callable[[Path], str]
) -> None:
    assert panels
    folder = tmp_path / "tls"
    told = spoil(folder)
    listener = secure(files, client_ca=str(folder / "panels.pem"))
    with pytest.raises(ListenError, match=rf"^listener\[ip\]\.{told}"):
        await TcpListener(listener, intake(journal), policies).open()
    with pytest.raises(TlsError):
        Certificates(listener)
    ((where, why),) = tls.mistakes([listen(), listener])
    assert re.match(told, f"{where.removeprefix('listener[1].')}: {why}")
