"""A key on the command line: both notations, the prompt, and what is said where it is none."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from arcgate.key import other_notation, read_key

DIGITS = "00112233445566778899AABBCCDDEEFF"


def test_both_notations_are_read() -> None:
    assert read_key(f"hex:{DIGITS}") == bytes.fromhex(DIGITS)
    assert read_key(f"ascii:{DIGITS}") == DIGITS.encode()
    assert other_notation(f"hex:{DIGITS}") == ("ascii", DIGITS.encode())
    assert other_notation(f"ascii:{DIGITS}") == ("hex", bytes.fromhex(DIGITS))
    assert other_notation("ascii:sixteen letters!") is None
    assert other_notation("credential:x") is None


def test_a_file_is_named_wherever_it_is(tmp_path: Path) -> None:
    file = tmp_path / "panel-0042"
    file.write_text(f"hex:{DIGITS}\n")
    file.chmod(0o600)
    assert read_key(f"credential:{file}") == bytes.fromhex(DIGITS)
    file.chmod(0o644)
    with pytest.raises(typer.BadParameter, match="others may read it"):
        read_key(f"credential:{file}")


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (DIGITS, "it must be said"),
        ("hex:0", "hexadecimal digits, without blanks or colons; here are 1 characters"),
        (f"hex: {DIGITS}", "here are 33 characters"),
        ("ascii:", "ascii:"),
        ("hex:001122", "it has 3 bytes"),
        (f"ascii:{DIGITS * 2}", "read as hex: it would have 32"),
        ("credential:gone", "gone"),
    ],
)
def test_what_is_no_key_is_told_without_it(written: str, why: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        read_key(written)
    assert why in refused.value.message
    assert DIGITS not in refused.value.message


def test_it_may_be_typed_unseen() -> None:
    app = typer.Typer()
    app.command()(lambda: typer.echo(read_key("-").hex()))
    done = CliRunner().invoke(app, input=f"hex:{DIGITS}\n")
    assert done.stdout.strip() == DIGITS.lower()
    assert DIGITS not in done.stderr
