"""Receivers' lines by `arcgate decode`: every vector, each byte of a line, what is copied without its end, and captures."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from arcgate.__main__ import app
from protocols.link import escape, unescape
from tests.arcgate.test_decode import decode
from tests.protocols.lines import rows

WORDS = ("surgard", "ademco685", "cp220", "bosch", "asterisk")
ROWS = [(word, row) for word in WORDS for row in rows(word)]
GOOD, OTHER = b"5011 181234E13001004\x14", b"5011 181234R13001004\x14"


@pytest.mark.parametrize(("word", "row"), ROWS, ids=lambda of: of["name"][:40] if isinstance(of, dict) else of)
def test_every_vector_is_told_with_its_fields_events_and_answer(word: str, row: dict[str, Any]) -> None:
    settings = ("--set", "experimental=true") if row["fields"].get("kind") == "sia_mode" else ()
    (told,) = decode("--protocol", word, *settings, stdin=unescape(row["frame"]), refused=row["received"] == "rejected")
    assert (told["received"], told["reply"]) == (row["received"], row["reply"])
    assert (told["reply_says"] != "") == (told["length"] is None)
    assert told["frame"].items() >= row["fields"].items()
    for event, expected in zip(told["events"], row.get("events", []), strict=True):
        assert event.items() >= expected.items()


def test_a_line_is_told_column_by_column() -> None:
    (told,) = decode("--protocol", "surgard", escape(GOOD))
    assert [(part["name"], part["at"], part["bytes"], part["says"]) for part in told["parts"]] == [
        ("fixed", 0, "5", ""),
        ("receiver", 1, "01", ""),
        ("line", 3, "1", ""),
        ("fixed", 4, " ", ""),
        ("message_type", 5, "18", "Contact ID"),
        ("account", 7, "1234", ""),
        ("qualifier", 11, "E", "new, or an opening"),
        ("code", 12, "130", ""),
        ("partition", 15, "01", ""),
        ("address", 17, "004", ""),
    ]
    assert (told["checksum"], told["length"], told["advice"]) == (None, None, [])
    assert told["reply_says"].startswith("ACK")


def test_a_line_that_lost_its_end_gets_it_back_and_a_damaged_one_is_asked_for_again() -> None:
    (told,) = decode("--protocol", "surgard", escape(GOOD[:-1]))
    assert (told["received"], told["reply"], told["advice"]) == (
        "message",
        r"\x06",
        [r"it was given without the \x14 at its end"],
    )
    (told,) = decode("--protocol", "surgard", escape(GOOD[:-1].replace(b"E", b"\xc5")), refused=True)
    assert (told["error"]["reason"], told["reply"], told["events"]) == ("damaged", r"\x15", [])
    assert told["reply_says"].startswith("NAK")


def test_what_a_receiver_says_of_itself_is_told() -> None:
    (told,) = decode("--protocol", "ademco685", "20 LINE 5155 5555 7")
    (event,) = told["events"]
    assert (event["account"], event["code"], event["zone"]) == ("(centre)", "receiver_line", "2")


def test_a_protocol_is_set_as_a_listener_sets_it() -> None:
    (told,) = decode("--protocol", "surgard", "--set", "end=cr", stdin=GOOD.replace(b"\x14", b"\r"))
    assert told["received"] == "message"
    (told,) = decode("--protocol", "ademco685", "--set", "acknowledge=false", "01 1234 18 E130 01 C005")
    assert (told["reply"], told["reply_says"]) == ("", "nobody waits for an answer")


@pytest.mark.parametrize(
    ("protocol", "words", "hint"),
    [
        ("surgard", ("--set", "end=crlf"), 'must be "dc4", "cr" or "none"'),
        ("surgard", ("--set", "ende=cr"), "did you mean `end`?"),
        ("surgard", ("--set", "end"), "write KEY=VALUE"),
        ("surgard", ("--strict",), "strict: unknown key"),
        ("dc09", ("--set", "nak=b"), 'must be "A0" or "#0"'),
        ("bosch", ("--set", "experimental=maybe"), "must be true or false"),
    ],
)
def test_a_setting_that_is_wrong_says_what_it_may_be(protocol: str, words: tuple[str, ...], hint: str) -> None:
    done = CliRunner().invoke(app, ["decode", "--protocol", protocol, *words, "x"])
    assert done.exit_code == 2
    assert "--set" in done.stderr
    assert hint in " ".join(done.stderr.replace("│", "").split())


@pytest.mark.parametrize(
    ("protocol", "line", "others"),
    [
        ("surgard", "01 1234 18 E130 01 C005", "ademco685, cp220"),
        ("ademco685", escape(GOOD), "surgard"),
        ("dc09", "01 1234 18 E130 01 C005", "ademco685, cp220"),
        ("surgard", r'\n90D8002A"SIA-DCS"0001L0#0123[#0123|Nri1BA3|Ahello]\r', "dc09"),
    ],
)
def test_a_line_of_another_protocol_is_named(protocol: str, line: str, others: str) -> None:
    told, *_ = decode("--protocol", protocol, line, refused=True)
    assert told["advice"][0] == f"it is a whole line of another protocol, {others}: say so with --protocol"
    (told,) = decode("--protocol", protocol, "nobody's line, of whatever protocol", refused=True)
    assert not any("--protocol" in line for line in told["advice"])


def test_a_line_that_is_kept_unread_names_who_reads_it() -> None:
    (told,) = decode("--protocol", "bosch", escape(GOOD))
    assert told["advice"] == ["it is a whole line of another protocol, surgard: say so with --protocol"]


@pytest.mark.parametrize(
    "capture",
    [
        GOOD + b"\0\0" + OTHER + b"1011           @    \x14",
        GOOD[:-1] + b"\n" + OTHER[:-1] + b"\n1011           @    \n",
        f"{escape(GOOD)}\n{escape(OTHER)}\n1011           @    \\x14\n".encode(),
        b"".join(
            b'{"at": "2026-11-22T13:00:04Z", "frame": "%b"}\n' % line for line in (GOOD[:-1], OTHER[:-1], b"1011           @    ")
        ),
    ],
    ids=["raw", "a line each", "escaped", "our log"],
)
def test_a_capture_of_lines_is_read_however_it_was_kept(capture: bytes, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(capture)
    told = decode("--protocol", "surgard", "--file", kept)
    assert [(row["received"], row["frame"]["kind"]) for row in told] == [
        ("message", "contact_id"), ("message", "contact_id"), ("link_test", "heartbeat")
    ]  # fmt: skip
    assert [row["events"][0]["qualifier"] for row in told[:2]] == ["new", "restore"]


def test_a_file_of_asterisk_s_is_read_with_its_metadata(tmp_path: Path) -> None:
    kept = tmp_path / "event-Ab12Cd"
    kept.write_text("\n\n[metadata]\n\nCALLINGFROM=0102030405\n\n[events]\n\n1234181131010158\n1234181131010157\n")
    first, second = decode("--protocol", "asterisk", "--file", kept)
    assert first["events"][0]["extended"] == [["CALLINGFROM", "0102030405"]]
    assert (first["mark"], second["mark"]) == ("", "its checksum is 7, its digits give 8")
    assert second["checksum"] == {"given": "7", "computed": "8"}
