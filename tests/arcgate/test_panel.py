"""The pretend panel, against a gateway that really runs and against receivers that answer badly."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from fastcrc.crc16 import arc
from typer.testing import CliRunner

from arcgate.__main__ import app
from protocols import dc09
from protocols.link import unescape
from receiver import status
from tests.conftest import Gateway, run_arcgate
from tests.receiver.certificates import Certificate


@contextmanager
def answering(*replies: bytes, family: socket.AddressFamily = socket.AF_INET) -> Iterator[str]:
    """A receiver that gives its next reply at each read, then closes."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as door:

        def serve() -> None:
            with door.accept()[0] as peer:
                for reply in replies:
                    peer.recv(4096)
                    peer.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        port = door.getsockname()[1]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        thread.join()


async def test_frames_of_both_formats_link_tests_and_many_in_a_row_are_acknowledged(gateway: Gateway) -> None:
    to = await gateway.address()
    panel = ("panel", "send", "--to", to, "--account", "0042", "--json", "--no-timestamp")

    sia, _ = sent(*panel, "--code", "BA", "--zone", "5", "--text", "front door")
    assert sia["frame"].endswith(r'"SIA-DCS"0001L0#0042[#0042|Nri1/BA5^front door^]\r')
    assert sia["reply"].endswith(r'"ACK"0001L0#0042[]\r')
    assert sia["ok"] is True
    assert sia["round_trip_ms"] > 0

    cid, _ = sent(*panel, "--format", "cid", "--code", "130", "--zone", "5", "--receiver", "1", "--sequence", "9999")
    assert cid["frame"].endswith(r'"ADM-CID"9999R1L0#0042[#0042|1130 01 005]\r')

    test, summary = sent("panel", "null", "--to", to, "--account", "7", "--json", "--line", "2")
    assert '"NULL"0001L2#7[]_' in test["frame"]
    assert summary["acked"] == 1

    many = ("--code", "OP", "--zone", "3", "--count", "12", "--sequence", "9995", "--rate", "200")
    done = run_arcgate("panel", "send", "--to", to, "--account", "1", *many)
    assert done.stdout.startswith("sent 12, acked 12; ms: p50 ")
    assert done.stdout.count("\n") == 1

    entries = gateway.told("journal", "list")
    assert [entry["events"][0]["code"] for entry in entries] == ["BA", "130", *["OP"] * 12]
    sequences = [entry["frame"].partition('"SIA-DCS"')[2][:4] for entry in entries[2:]]
    assert sequences[3:7] == ["9998", "9999", "0001", "0002"]


def sent(*words: object) -> list[dict[str, Any]]:
    done = run_arcgate(*words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_answer_that_is_no_ack_is_told_in_words() -> None:
    duh, wrong_sequence = dc09.build_reply("DUH", "0001L0#1234"), dc09.build_reply("ACK", "0009L0#1234")
    with answering(duh, wrong_sequence, b"\n00000012" + wrong_sequence[9:], b"OK\r\n") as to:
        panel = ("panel", "send", "--to", to, "--account", "1234", "--code", "BA")
        done = run_arcgate(*panel, "--count", "11", "--timeout", "0.5")
    assert done.returncode == 1
    assert [line.split("  ")[-1].partition(":")[0] for line in done.stderr.splitlines()[1::2]] == [
        "DUH",
        "not the ACK that the frame asks for",
        "the reply cannot be read",
        "no reply",
    ]
    assert r"closed the connection, after OK" in done.stderr
    assert "its sequence is '0009', not '0002'" in done.stderr
    assert done.stdout.startswith("sent 4, acked 0;")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b'\n62D50016"ACK"0001NoneL0#1234[]\r', r'its header is "ACK"0001NoneL0#1234[], and should be like'),
        (b'\n62D60016"ACK"0001NoneL0#1234[]\r', "its checksum is 62D6, its bytes give 62D5"),
        (b'\n62D50015"ACK"0001NoneL0#1234[]\r', "its length is 21, and its body has 22 bytes"),
        (
            dc09.build(dc09.Frame(id_token="ACK", sequence="0001", account="1234"), key=b"k" * 16),
            "encrypted, and not with our key",
        ),
    ],
)
def test_a_reply_that_cannot_be_read_says_what_is_wrong_in_it(reply: bytes, why: str) -> None:
    """The first is what one open receiver sends where a panel has no R."""
    with answering(reply) as to:
        done = run_arcgate("panel", "null", "--to", to, "--account", "1234", "--timeout", "0.5")
    assert done.returncode == 1
    assert why in done.stderr


def nak(at: datetime) -> bytes:
    return dc09.build_reply("NAK", "0000R0L0A0")[9:-1] + f"_{at:%H:%M:%S,%m-%d-%Y}".encode()


def framed(body: bytes) -> bytes:
    return b"\n%04X%04X%b\r" % (arc(body), len(body), body)


def test_a_nak_sets_the_clock_and_the_same_sequence_goes_out_again() -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    with answering(framed(nak(hour_ago)), *(dc09.build_reply("ACK", f"000{n}L0#1") for n in (7, 8))) as to:
        first, second, summary = sent("panel", "null", "--to", to, "--account", "1", "--sequence", "7", "--count", "2", "--json")
    assert first["ok"]
    assert first["clock_set_s"] == pytest.approx(-3600, abs=60)
    for told, sequence in ((first, "0007"), (second, "0008")):
        frame = dc09.Dc09().explain(unescape(told["frame"]))
        assert frame
        assert frame.timestamp
        assert frame.sequence == sequence
        assert abs(frame.timestamp - hour_ago) < timedelta(seconds=60)
    assert "clock_set_s" not in second
    assert (summary["sent"], summary["acked"]) == (2, 2)


def test_a_second_nak_is_an_error() -> None:
    with answering(*[framed(nak(datetime.now(UTC)))] * 2) as to:
        done = run_arcgate("panel", "null", "--to", to, "--account", "1", "--ahead", "-60")
    assert done.returncode == 1
    assert "NAK again" in done.stderr


def test_a_datagram_is_answered_by_a_datagram() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))

        def serve() -> None:
            frame, peer = receiver.recvfrom(4096)
            assert b'"NULL"0003L0#1[]' in frame
            receiver.sendto(dc09.build_reply("ACK", "0003L0#1"), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        to = f"127.0.0.1:{receiver.getsockname()[1]}"
        done = run_arcgate("panel", "null", "--udp", "--to", to, "--account", "1", "--sequence", "3")
        thread.join()
    assert (done.returncode, done.stderr) == (0, "")
    done = run_arcgate("panel", "null", "--udp", "--to", to, "--account", "1", "--timeout", "2")
    assert done.returncode == 1
    assert "nothing listens there" in done.stderr


KEYED = """
account = [{ number = "5128", key = "hex:00112233445566778899AABBCCDDEEFF" }, { number = "5256", key = "credential:panel.key" }]
"""
SECRET = "0123456789ABCDEF0123456789abcdef"
LISTENERS = 'state_dir = "state"\n' + "".join(
    f'[[listener]]\nname = "{transport}"\nprotocol = "dc09"\ntransport = "{transport}"\naddress = "127.0.0.1:0"\n'
    for transport in ("tcp", "udp", "tls")
)
CERTIFICATES = 'certificate = "tls.pem"\nprivate_key = "tls.key"\nclient_ca = "mine.pem"\n'


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A gateway with a listener of each transport, and accounts with keys; gives each listener's address."""
    (tmp_path / "arcgate.toml").write_text(LISTENERS + CERTIFICATES)
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts" / "keyed.toml").write_text(KEYED)
    (tmp_path / "panel.key").write_text(SECRET)
    (tmp_path / "panel.key").chmod(0o600)
    Certificate("gateway").write(tmp_path)
    Certificate("panel").write(tmp_path, "mine")
    gateway = Gateway(tmp_path)
    gateway.start("receive")
    told = asyncio.run(status.ask(gateway.state_dir / "receive.sock"))
    assert told
    yield {listener["name"]: listener["addresses"][0] for listener in told["listeners"]}
    assert gateway.stop() == 0
    assert SECRET not in gateway.log.read_text()


def test_every_transport_key_and_dialect_is_acknowledged(places: dict[str, str], tmp_path: Path) -> None:
    """And a panel that is wrong in one of them is told so."""
    files = {"--ca": "tls.pem", "--certificate": "mine.pem", "--private-key": "mine.key"}
    tls = ("--tls", *(word for option, name in files.items() for word in (option, str(tmp_path / name))))
    ways: dict[str, tuple[str, ...]] = {"tcp": (), "udp": ("--udp",), "tls": tls}
    keys: dict[str, tuple[str, ...]] = {
        "1234": (),
        "5128": ("--key", "hex:00112233445566778899AABBCCDDEEFF"),
        "5256": ("--key", f"ascii:{SECRET}"),
    }
    for transport, way in ways.items():
        for account, key in keys.items():
            answer = panel(places[transport], "send", *way, *key, "--account", account, "--code", "BA")
            assert ('"*ACK"' if key else '"ACK"') in json.loads(answer.splitlines()[0])["reply"]
    for dialect in filter(None, get_args(dc09.Dialect)):
        for account, key in list(keys.items())[:2]:
            assert "ACK" in panel(places["tcp"], "null", *key, "--account", account, "--dialect", dialect), dialect
    clock = panel(places["udp"], "null", "--udp", *keys["5128"], "--account", "5128", "--ahead", "-3600")
    assert json.loads(clock.splitlines()[0])["clock_set_s"] == pytest.approx(3600, abs=60)
    for words, why in (
        ((*ways["tls"][:1], "--timeout", "5"), "not trusted"),
        (("--key", f"ascii:{SECRET}", "--timeout", "0.5"), "no reply"),
    ):
        to = places["tls" if "--tls" in words else "tcp"]
        done = CliRunner().invoke(app, ["panel", "null", "--to", to, "--account", "5128", *words])
        assert done.exit_code == 1
        assert why in done.stderr
    done = CliRunner().invoke(
        app, ["panel", "null", "--to", places["tcp"], "--account", "1", "--tls", "--insecure", "--timeout", "1"]
    )
    assert done.exit_code == 1


def panel(to: str, verb: str, *words: str) -> str:
    done = CliRunner().invoke(app, ["panel", verb, "--to", to, "--json", *words])
    assert done.exit_code == 0, f"{words}: {done.stderr}"
    return str(done.stdout)


def test_silence_ends_at_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        to = f"127.0.0.1:{deaf.getsockname()[1]}"
        done = run_arcgate("panel", "send", "--to", to, "--account", "1", "--code", "BA", "--timeout", "0.1", "--json")
    assert done.returncode == 1
    told, summary = map(json.loads, done.stdout.splitlines())
    assert (told["ok"], told["round_trip_ms"], summary["acked"]) == (False, None, 0)
    assert "no reply" in done.stderr


def test_a_sum_without_a_reply_has_no_times() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        to = f"127.0.0.1:{deaf.getsockname()[1]}"
        for words in (("null", "--count", "100"), ("load", "--panels", "1", "--rate", "10", "--seconds", "0.1")):
            done = run_arcgate("panel", words[0], "--to", to, "--account", "1", "--timeout", "0.1", *words[1:])
            assert "p50 -, p99 -, max -;" in done.stdout


def test_a_port_that_speaks_no_tls_is_told_from_a_firewall() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        to = f"127.0.0.1:{plain.getsockname()[1]}"
        done = run_arcgate("panel", "null", "--to", to, "--account", "1", "--tls", "--insecure", "--timeout", "0.2")
    assert done.returncode == 1
    assert "is this the port of a TLS listener" in done.stderr


def test_a_closed_port_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        to = f"127.0.0.1:{closed.getsockname()[1]}"
    done = run_arcgate("panel", "null", "--to", to, "--account", "1")
    assert done.returncode == 1
    assert f"{to}: connection refused" in done.stderr
    assert "arcgate status" in done.stderr


def test_speaks_over_ipv6() -> None:
    with answering(dc09.build_reply("ACK", "0001L0#1"), family=socket.AF_INET6) as to:
        done = run_arcgate("panel", "null", "--to", to, "--account", "1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--to", "12000"),
        ("--code", "B"),
        ("--text", "a]b"),
        ("--qualifier", "restore"),
        ("--account", "#1"),
        ("--dialect", "klingon"),
        ("--ca", "x.pem"),
        ("--key", "hex:00"),
    ],
)
def test_what_no_panel_can_send_is_refused_with_the_option_s_name(wrong: tuple[str, str]) -> None:
    words = {"--to": "127.0.0.1:1", "--account": "1", "--code": "BA"} | dict([wrong])
    done = CliRunner().invoke(app, ["panel", "send", *(word for pair in words.items() for word in pair)])
    assert done.exit_code == 2
    assert wrong[0] in done.stderr
