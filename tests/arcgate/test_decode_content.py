"""The bare contents of the event formats, by `arcgate decode`: every vector of theirs, and what is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.arcgate.test_decode import decode

FIXTURES = Path(__file__).parents[2] / "fixtures"
ROWS = [
    (word, row)
    for word in ("contact_id", "sia")
    for row in map(json.loads, (FIXTURES / word / "vectors.jsonl").read_text().splitlines())
]


@pytest.mark.parametrize(("word", "row"), ROWS, ids=lambda of: of["name"][:40] if isinstance(of, dict) else of)
def test_every_vector_is_told_with_its_events(word: str, row: dict[str, Any]) -> None:
    content = row["content"] if row.get("account") == "" else f"#0042|{row['content']}"
    now = ("--now", row["now"]) if "now" in row else ()
    (told,) = decode("--protocol", word, *now, stdin=content.encode(), refused=not row["expect"])
    if not row["expect"]:
        (event,) = told["events"]
        assert (told["error"]["reason"], event["format"], event["text"]) == ("malformed", "raw", row["content"].strip())
        return
    assert len(told["events"]) == len(row["expect"])
    for event, expected in zip(told["events"], row["expect"], strict=True):
        assert event.items() >= ({"account": "0042"} | expected).items()


def test_dialled_digits_are_told_by_column_with_their_checksum() -> None:
    (told,) = decode("--protocol", "contact_id", "1234 18 3 401 03 005 F")
    columns = {"account": "1234", "message_type": "18", "qualifier": "3", "code": "401", "partition": "03", "address": "005"}
    assert told["frame"] == columns | {"kind": "contact_id", "checksum": "F"}
    assert told["checksum"] == {"given": "F", "computed": "F"}
    assert (told["events"][0]["category"], told["events"][0]["user"], told["reply"]) == ("closing", "005", "")
    (told,) = decode("--protocol", "contact_id", "1234183401030057", refused=True)
    assert told["checksum"] == {"given": "7", "computed": "F"}
    assert "the checksum is 7, the digits give F" in told["error"]["message"]
    assert told["reply_says"] == "nobody waits for an answer"
    (told,) = decode("--protocol", "contact_id", "12E4 18 E 130 01 005 9")
    assert told["checksum"] == {"given": "9", "computed": "9"}


def test_a_file_has_a_content_a_line(tmp_path: Path) -> None:
    kept = tmp_path / "contents.txt"
    kept.write_text("#1234|Nri1/BA5\n\n#1234|Ori1/FA7/da11-22-26/ti10:00:00\r\n#7|NCL3")
    told = decode("--protocol", "sia", "--file", kept)
    assert [(row["frame"]["account"], row["events"][0]["code"], row["events"][0]["old"]) for row in told] == [
        ("1234", "BA", False), ("1234", "FA", True), ("7", "CL", False)
    ]  # fmt: skip
    assert len(decode("--protocol", "sia", "--account", "7", "--file", kept)) == 1


def test_what_has_no_end_is_read_in_pieces_of_bounded_size() -> None:
    told = decode("--protocol", "sia", stdin=b"x" * 200_000, refused=True)
    assert {row["error"]["reason"] for row in told} == {"malformed"}
