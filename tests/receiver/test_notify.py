"""What systemd hears: real datagrams to a real socket."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from receiver.notify import notify, watchdog_s

BIND: list[Callable[[Path], tuple[str, str]]] = [
    lambda folder: (str(folder / "notify.sock"), str(folder / "notify.sock")),
    lambda folder: (f"\0{folder}", f"@{folder}"),
]


@pytest.mark.parametrize("names", BIND, ids=["in a folder", "abstract"])
def test_a_state_is_one_datagram(
    names: Callable[[Path], tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, told = names(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", told)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(5)
        notify("READY=1")
        notify("WATCHDOG=1")
        assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("place", [None, "", "/no/such/socket", "@nobody-there", f"/{'x' * 200}", "@", "relative"])
def test_where_nobody_listens_nothing_is_raised(place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if place is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", place)
    notify("READY=1")


@pytest.mark.parametrize(
    ("limit_us", "interval_s"),
    [(None, None), ("", None), ("0", None), ("no number", None), ("-1", None), ("\N{SUPERSCRIPT TWO}", None), ("30000000", 15.0)],
)
def test_the_watchdog_is_fed_at_half_its_limit(
    limit_us: str | None, interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if limit_us is not None:
        monkeypatch.setenv("WATCHDOG_USEC", limit_us)
    assert watchdog_s() == interval_s
