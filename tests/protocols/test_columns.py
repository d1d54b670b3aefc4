"""Fixed columns: what reads also builds, and what does not fit is told."""

import pytest
from construct import Const
from hypothesis import given
from hypothesis import strategies as st

from protocols.columns import ColumnError, Frame, column, digits, filled, hexa, layout

LINE = layout("line", Const(b"5"), "receiver" / hexa(2), "account" / filled(6), "code" / column(1, "ERP"), "address" / digits(3))


@given(
    st.builds(
        Frame,
        kind=st.just("line"),
        receiver=st.text("0123456789ABCDEFabcdef", min_size=2, max_size=2),
        account=st.text("0123456789ABCDEF", min_size=1, max_size=6),
        code=st.sampled_from("ERP"),
        address=st.text("0123456789", min_size=3, max_size=3),
    )
)
def test_build_and_read_are_inverse(frame: Frame) -> None:
    line = LINE.build(frame)
    assert len(line) == LINE.size == 13
    assert LINE.read(line) == frame


@pytest.mark.parametrize(
    "line", [b"", b"501  1234E00", b"501  1234E0012", b"601  1234E001", b"501      E001", b"501  1234X001", b"501  1234E0\xff1"]
)
def test_a_line_that_does_not_fit_is_none(line: bytes) -> None:
    assert LINE.read(line) is None


@given(st.binary(max_size=16))
def test_any_bytes_never_raise(line: bytes) -> None:
    LINE.read(line)


@pytest.mark.parametrize(
    "wrong", [{"account": "1234567"}, {"code": "X"}, {"address": "1"}, {"receiver": "0é"}, {"address": "€00"}]
)
def test_a_value_that_fits_no_column_is_told(wrong: dict[str, str]) -> None:
    with pytest.raises(ColumnError, match=f"line: its {next(iter(wrong))} has"):
        LINE.build(Frame(kind="line", **{"receiver": "01", "account": "1234", "code": "E", "address": "001"} | wrong))
