"""`arcgate decode` for the integrator who has a frame and a question."""

import json
import os
import pty
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from arcgate.__main__ import app
from protocols import dc09
from protocols.dc09 import cipher
from protocols.dc09.frame import wrap
from protocols.link import escape, unescape
from tests.arcgate.test_pcap import ethernet, ipv4, pcap, tcp
from tests.conftest import ARCGATE, run_arcgate, sia

FRAMES = Path(__file__).parents[2] / "fixtures" / "dc09" / "frames.jsonl"
BURGLARY = r'\n90D8002A"SIA-DCS"0001L0#0123[#0123|Nri1BA3|Ahello]\r'


def decode(*words: object, stdin: bytes = b"", refused: bool = False) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["decode", *map(str, words)], input=stdin)
    assert done.exit_code == refused, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_frame_is_told_field_by_field_with_its_events_and_reply() -> None:
    (told,) = decode(BURGLARY)
    assert list(told)[:5] == ["received", "frame", "events", "reply", "error"]
    assert told["received"] == "message"
    assert told["frame"] == {
        "id_token": "SIA-DCS",
        "encrypted": False,
        "sequence": "0001",
        "receiver": None,
        "line": "0",
        "account": "0123",
        "data": "#0123|Nri1BA3|Ahello",
        "extended": [],
        "timestamp": None,
    }
    (event,) = told["events"]
    assert event == {
        "account": "0123",
        "format": "sia",
        "code": "BA",
        "qualifier": "new",
        "category": "burglary",
        "partition": "1",
        "zone": "3",
        "user": None,
        "occurred_at": None,
        "text": "hello",
        "extended": [],
        "old": False,
        "label": "Burglary alarm",
    }
    assert told["reply"] == r'\nF7340012"ACK"0001L0#0123[]\r'
    assert told["error"] is None


VECTORS = [row for row in map(json.loads, FRAMES.read_text().splitlines()) if not row.keys() & {"policy", "rules"}]


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: str(row["name"]))
def test_every_vector_is_told_with_its_fields_reply_and_reason(row: dict[str, Any]) -> None:
    words = [*(("--key", f"hex:{row['key']}") if row.get("key") else ()), *(("--now", row["now"]) if "now" in row else ())]
    told = decode(*words, stdin=unescape(row["frame"]), refused=row["received"] == "rejected")
    assert told[-1]["received"] == row["received"]
    assert (told[-1]["error"] or {}).get("reason") == row.get("reason")
    assert told[-1]["reply"] == row["reply"] or f'"{row["reply"]}"' in told[-1]["reply"]
    assert set(told[-1]["dialects"]) >= set(row.get("dialects", ()))
    for field, value in row.get("fields", {}).items():
        assert told[-1]["frame"][field] == value, field


def test_a_refused_frame_shows_its_fields_and_why() -> None:
    (told,) = decode(BURGLARY.replace("90D8", "90D9"), refused=True)
    assert (told["received"], told["reply"], told["events"]) == ("rejected", "", [])
    assert told["error"]["reason"] == "crc"
    assert "90D8" in told["error"]["message"]
    assert told["frame"]["account"] == "0123"


def test_noise_is_no_frame_and_gets_no_answer() -> None:
    (told,) = decode(stdin=b"GET / HTTP/1.1\r\n\r\n", refused=True)
    assert (told["received"], told["frame"], told["reply"], told["parts"]) == ("rejected", None, "", [])
    assert told["error"]["reason"] == "foreign"
    assert told["checksum"] is None
    assert told["reply_says"] == "no answer: these bytes ask for none"


def test_silence_to_an_answer_costs_nobody_his_life() -> None:
    (told,) = decode(escape(dc09.build_reply("ACK", "0001L0#0123")), refused=True)
    assert (told["error"]["reason"], told["reply_says"]) == ("answer", "no answer: these bytes ask for none")
    (told,) = decode(BURGLARY.replace("90D8", "90D9"), refused=True)
    assert "takes the receiver for dead" in told["reply_says"]


def test_a_time_without_a_date_is_that_nearest_to_now() -> None:
    frame = dc09.build(sia("1", "Nti23:59:00/BA1"))
    (told,) = decode("--now", "2026-01-01T00:01:00", stdin=frame)
    assert datetime.fromisoformat(told["events"][0]["occurred_at"]) == datetime(2025, 12, 31, 23, 59, tzinfo=UTC)


KEY = b"0123456789abcdef"
AT = datetime(2026, 11, 22, 13, tzinfo=UTC)
SEALED = dc09.build(
    msgspec.structs.replace(sia("1234", "Nri1/BA5"), timestamp=AT, extended=(("X", "006E07.777"),)), key=KEY, pad=b"x"
)
NOW = ("--now", "2026-11-22T14:00:05+01:00")


def _sealed(content: bytes) -> bytes:
    """A frame of a panel whose content is this, whatever it is."""
    return wrap(f'"*SIA-DCS"0001L0#1234[{cipher.encrypt(KEY, content, b"")}'.encode())


def test_an_encrypted_frame_is_opened_and_so_is_its_answer() -> None:
    (told,) = decode(escape(SEALED), "--key", "ascii:another key here", "--key", f"hex:{KEY.hex()}", *NOW)
    assert (told["frame"]["data"], told["ahead_s"]) == ("#1234|Nri1/BA5", -5)
    assert told["events"][0]["extended"] == [["X", "6.1296167"]]
    assert [part["name"] for part in told["parts"] if part["name"].startswith("opened")] == [
        *("opened: pad", "opened: data", "opened: extended X", "opened: time")
    ]
    assert '"*ACK"0001L0#1234[' in told["reply"]
    assert told["reply_says"].endswith("encrypted, with the time 2026-11-22 13:00:05 UTC")


def test_without_the_key_it_says_what_can_be_read_and_with_the_wrong_notation_which_fits() -> None:
    (told,) = decode(escape(SEALED), *NOW, refused=True)
    assert (told["error"]["reason"], told["frame"]["account"], told["events"]) == ("no_key", "1234", [])
    assert "--key" in told["advice"][0]
    written = KEY.hex()
    (told,) = decode(escape(SEALED), "--key", f"ascii:{written}", *NOW, refused=True)
    assert told["error"]["reason"] == "wrong_key"
    assert "hex" in told["error"]["message"]
    assert written not in json.dumps(told)
    sealed = dc09.build(msgspec.structs.replace(sia("1", "Nri1/BA5"), timestamp=AT), key=written.encode())
    (told,) = decode(escape(sealed), "--key", f"hex:{written}", *NOW, refused=True)
    assert '"ascii:..."' in told["error"]["message"]
    assert told["advice"] == []
    (told,) = decode(escape(SEALED), "--key", "ascii:another key here", *NOW, refused=True)
    assert "during a rotation" in told["advice"][0]


@pytest.mark.parametrize("data", [b"|#1234|Nri1/BA5", b"|#1234|Nri1/BA55"])
def test_a_content_that_a_library_of_aes_has_padded_is_told_as_that(data: bytes) -> None:
    content = data + b"]_13:00:00,11-22-2026"
    count = 16 - len(content) % 16
    (told,) = decode(escape(_sealed(content + bytes([count]) * count)), "--key", f"hex:{KEY.hex()}", *NOW, refused=True)
    assert (told["error"]["reason"], told["frame"]["data"]) == ("old_time", data[1:].decode())
    assert f"{count} bytes of PKCS#7 padding" in told["error"]["message"]
    assert told["advice"] == []


def test_an_hour_that_comes_twice_is_the_one_that_was_meant() -> None:
    """On 25 October the clocks of Paris go from 3 h back to 2 h: 02:30 is 00:30 UTC, and 01:30 UTC again."""
    told_at = datetime(2026, 10, 25, 2, 30, tzinfo=UTC)
    frame = dc09.build(msgspec.structs.replace(sia("1234", "Nri1/BA5"), timestamp=told_at), key=KEY)
    for now in ("2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00"):
        (told,) = decode(escape(frame), "--key", f"hex:{KEY.hex()}", "--time-zone", "Europe/Paris", "--now", now)
        assert (told["ahead_s"], datetime.fromisoformat(told["frame"]["timestamp"])) == (0, datetime.fromisoformat(now))


def test_where_nothing_came_it_says_so_and_what_it_may_be() -> None:
    for words, given, why in (
        ([], b"", "nothing in it begins as a frame: is it of another --protocol?"),
        (["--account", "9"], dc09.build(sia("1234", "Nri1/BA5")), "none is of account 9"),
    ):
        done = CliRunner().invoke(app, ["decode", *words], input=given)
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"0 frames, 0 refused: {why}\n")


def test_a_wrong_time_says_by_how_much_and_that_now_may_be_another() -> None:
    (told,) = decode(escape(SEALED), "--key", f"ascii:{KEY.decode()}", refused=True)
    assert told["error"]["reason"] == "old_time"
    assert any("--now" in line for line in told["advice"])
    assert told["events"][0]["code"] == "BA"
    assert told["reply_says"].startswith("not taken: the panel is to set its clock")
    local = ("--key", f"ascii:{KEY.decode()}", "--now", "2026-11-22T12:00:00", "--time-zone", "Europe/Paris")
    (told,) = decode(escape(SEALED), *local)
    assert told["ahead_s"] == 0
    for at in ("", "_25:00:00,11-22-2026"):
        key = f"hex:{KEY.hex()}"
        timeless = dc09.build(sia("1234", "Nri1/BA5"), key=KEY) if not at else _sealed(f"|#1234|Nri1/BA5]{at}".encode())
        (told,) = decode(escape(timeless), "--key", key, refused=True)
        assert (told["error"]["reason"], told["advice"]) == ("old_time", [])
    (told,) = decode(escape(SEALED), *local[:4], refused=True)
    assert "time_zone" in told["error"]["message"]
    assert not any("--now" in line for line in told["advice"])


def test_strict_refuses_a_dialect_by_its_name() -> None:
    frame = escape(dc09.build(sia("1234", "Nri1/BA5"), dialect="binary_crc"))
    (told,) = decode(frame)
    assert list(told["dialects"]) == ["binary_crc"]
    assert (told["checksum"]["given"], told["length"]) == (told["checksum"]["computed"], {"given": 36, "counted": 36})
    (told,) = decode(frame, "--strict", refused=True)
    assert told["error"]["reason"] == "dialect"


def test_a_capture_tells_its_frames_with_their_peers_and_times(tmp_path: Path) -> None:
    """A capture's own time counts; a key is of who encrypts; plain frames of others, and answers, are no refusals."""
    kept = tmp_path / "panel.log"
    line = json.dumps({"received_at": "2026-11-22T13:00:04Z", "frame": SEALED.decode("latin-1")})
    kept.write_text(f"{line}\n{BURGLARY}\n{escape(dc09.build_reply('ACK', '0001L0#0123'))}\n")
    told = decode("--file", kept, "--key", f"ascii:{KEY.decode()}")
    assert [(row["peer"], row["received"]) for row in told] == [
        ("line 1", "message"),
        ("line 2", "message"),
        ("line 3", "rejected"),
    ]
    assert told[0]["ahead_s"] == -4
    assert (told[0]["advice"], told[1]["advice"]) == ([], ["a plain frame: of an account that has a key it would be refused"])
    assert told[1]["reply"] == r'\nF7340012"ACK"0001L0#0123[]\r'
    (told_alone,) = decode(BURGLARY, "--key", f"ascii:{KEY.decode()}", refused=True)
    assert told_alone["error"]["reason"] == "plain"
    told = decode("--file", kept, "--account", "1234", "--key", f"ascii:{KEY.decode()}")
    assert len(told) == 1
    kept.write_text(f"{BURGLARY}\n{escape(dc09.build_reply('ACK', '0001L0#0123'))}\n")
    done = run_arcgate("decode", "--file", kept)
    assert done.returncode == 0
    assert done.stderr == "2 frames, 0 refused\n"


def test_a_stream_of_a_capture_is_read_across_its_packets(tmp_path: Path) -> None:
    kept = tmp_path / "panel.pcap"
    kept.write_bytes(pcap(*(ethernet(ipv4(tcp(1 + at, SEALED[at : at + 50]))) for at in range(0, len(SEALED), 50))))
    kept_raw = tmp_path / "panel.raw"
    kept_raw.write_bytes(SEALED + unescape(BURGLARY))
    assert len(decode("--file", kept_raw, "--key", f"ascii:{KEY.decode()}", "--now", AT.isoformat())) == 2
    (told,) = decode("--file", kept, "--key", f"ascii:{KEY.decode()}", "--now", AT.isoformat())
    assert (told["received"], told["peer"]) == ("message", "192.0.2.1:5000 > 192.0.2.9:12000")
    kept.write_bytes(pcap()[:10])
    done = run_arcgate("decode", "--file", kept)
    assert done.returncode == 2
    assert "pcap" in done.stderr


def test_a_frame_that_was_pasted_says_what_was_taken_for_granted() -> None:
    (told,) = decode(BURGLARY[2:-2])
    assert told["received"] == "message"
    assert "without the CR" in told["advice"][0]
    assert decode(unescape(BURGLARY).hex())[0]["received"] == "message"


def test_a_wrong_checksum_says_what_makes_it_fit() -> None:
    (told,) = decode(BURGLARY.replace("hello", "hallo"), refused=True)
    assert told["checksum"]["given"] == "90D8" != told["checksum"]["computed"]
    assert "characters, or the checksum" in told["advice"][0]


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    """Not where it opens, not where it does not, not where it is no key, not on a page."""
    secret = "5EC2E7000000000000000000000000AA"
    for words in (("--key", f"hex:{secret}"), ("--key", f"ascii:{secret}"), ("--key", f"hex:{secret}AB"), ("--key", secret)):
        done = run_arcgate("decode", escape(SEALED), *words, *NOW)
        assert done.returncode
        assert secret not in done.stdout + done.stderr
    (tmp_path / "panel.key").write_bytes(KEY)
    (tmp_path / "panel.key").chmod(0o600)
    done = run_arcgate("decode", escape(SEALED), "--key", "credential:panel.key", *NOW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert KEY.decode() not in done.stdout


@pytest.mark.parametrize(
    "words", [("--key", "hex:00"), ("--time-zone", "Paris"), ("--file", "gone"), (r"\q",), (BURGLARY, "--file", "x")]
)
def test_a_mistake_is_a_usage_error_that_names_its_option(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["decode", *words])
    assert done.exit_code == 2
    assert next((word for word in words if word[:2] == "--"), "FRAME") in done.stderr


def test_an_unknown_protocol_is_a_usage_error() -> None:
    done = CliRunner().invoke(app, ["decode", "--protocol", "x25", "A"])
    assert done.exit_code == 2
    assert "dc09" in done.stderr


def test_on_a_terminal_the_brackets_of_a_frame_are_there() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([ARCGATE, "decode", BURGLARY], stdout=theirs, env={**os.environ, "COLUMNS": "120"}) as decoding:
        os.close(theirs)
        page = b""
        try:
            while data := os.read(ours, 4096):
                page += data
        except OSError:  # the terminal's other side is closed
            pass
    os.close(ours)
    assert decoding.returncode == 0
    assert b"L0#0123[#0123|Nri1BA3|Ahello]" in page
    assert b"Burglary alarm" in page
