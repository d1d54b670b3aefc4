"""The file by which the receiver knows how far its reports have come: whole, or as if it were not there."""

from pathlib import Path

import pytest

from receiver.delivered import NAME, Delivered


def test_what_was_written_last_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    assert Delivered.read(tmp_path) is None
    Delivered("main-0123abcd", 5, 3).write(tmp_path)
    Delivered("main-0123abcd", 9).write(tmp_path)
    assert Delivered.read(tmp_path) == Delivered("main-0123abcd", 9, None)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b'{"journal":"a","cursor":', b'{"journal":"\xff","cursor":1}', b"[]"])
def test_one_that_cannot_be_read_is_as_if_it_were_not_there(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert Delivered.read(tmp_path) is None


@pytest.mark.parametrize(("cursor", "oldest", "needed"), [(9, None, 9), (9, 3, 3), (3, 9, 3), (0, None, 0)])
def test_retention_keeps_what_is_not_delivered_and_what_open_alarms_came_of(cursor: int, oldest: int | None, needed: int) -> None:
    assert Delivered("a", cursor, oldest).needed == needed
