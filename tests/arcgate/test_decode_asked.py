"""`arcgate decode` by the centre's own files: each account's key and rules, its listener's, and what is wrong in them."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from protocols import dc09
from protocols.link import escape
from tests.arcgate.test_decode import decode
from tests.conftest import run_arcgate, sia

KEY, OLDER = "5EC2E7000000000000000000000000AA", "5EC2E7000000000000000000000000BB"
AT = datetime(2026, 11, 22, 13, tzinfo=UTC)
NOW = ("--now", AT.isoformat())
CONFIG = """
[[listener]]
name = "ip"
protocol = "dc09"
transport = "tcp"
address = "127.0.0.1:12000"
undecryptable = "duh"
unknown_accounts = "silence"
nak = "#0"
"""
SURGARD = """
[[listener]]
name = "receiver1"
protocol = "surgard"
transport = "tcp"
address = "127.0.0.1:12001"
"""
ACCOUNTS = f"""
[[account]]
number = "1234"
key = ["hex:{KEY}", "hex:{OLDER}"]

[[account]]
number = "77"
heartbeat = ["RP"]
time = "enforce_plain"
time_zone = "Europe/Paris"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "arcgate.toml").write_text(CONFIG)
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts" / "all.toml").write_text(ACCOUNTS)
    return tmp_path


def frame(account: str, content: str = "Nri1/BA5", key: str = "", at: datetime | None = AT) -> str:
    plain = msgspec.structs.replace(sia(account, content), timestamp=at)
    return escape(dc09.build(plain, key=bytes.fromhex(key)))


def test_each_account_is_read_and_answered_by_its_own_rules(home: Path) -> None:
    """What it says of the reply is what the gateway would send."""
    lines = (
        frame("1234", key=KEY),
        frame("1234", key=OLDER),
        frame("1234"),
        frame("1234", key="00" * 16),
        frame("77", "Nri0/RP0000", at=AT.replace(hour=14)),
        frame("77"),
        frame("5678"),
    )
    (home / "kept").write_text("\n".join(lines))
    told = decode("--config", home / "arcgate.toml", "--file", home / "kept", *NOW, refused=True)
    assert [(row["error"] or {}).get("reason", row["received"]) for row in told] == [
        *("message", "message", "plain", "wrong_key", "link_test", "old_time", "unknown_account")
    ]
    assert told[0]["reply_says"].startswith("taken")
    assert "older key" in told[1]["mark"]
    assert '"DUH"' in told[3]["reply"]
    assert "R0L0#0" in told[5]["reply"]
    assert [row["advice"] for row in told[2:4]] == [[], []]
    assert not any(secret in str(told) for secret in (KEY, OLDER))


def test_an_account_that_is_not_listed_is_said_to_be_none(home: Path) -> None:
    (home / "arcgate.toml").write_text(CONFIG.replace('"silence"', '"raise"'))
    (told,) = decode(frame("5678"), "--config", home / "arcgate.toml")
    assert (told["received"], told["advice"]) == (
        "message",
        ["its account is not in accounts/: it is taken as that of a panel without a key"],
    )


def test_of_several_listeners_one_must_be_named(home: Path) -> None:
    config = home / "arcgate.toml"
    config.write_text(CONFIG + SURGARD)
    (told,) = decode(r"5011 181234E13001004\x14", "--config", config, "--listener", "Receiver1")
    assert told["frame"]["kind"] == "contact_id"
    for words in ((), ("--listener", "udp")):
        done = run_arcgate("decode", frame("77"), "--config", config, *words)
        assert done.returncode == 2
        assert "ip, receiver1" in " ".join(done.stderr.split())


def test_a_mistake_is_told_as_check_tells_it_and_no_key_with_it(home: Path) -> None:
    (home / "accounts" / "all.toml").write_text(ACCOUNTS.replace(KEY, KEY + "AB"))
    told = run_arcgate("decode", frame("77"), "--config", home / "arcgate.toml")
    checked = run_arcgate("check", "--config", home / "arcgate.toml")
    assert (told.returncode, told.stdout, told.stderr) == (2, "", checked.stderr)
    assert "key[0]" in told.stderr
    assert KEY not in told.stderr


@pytest.mark.parametrize(
    "words", [("--key", f"hex:{KEY}"), ("--strict",), ("--protocol", "dc09"), ("--time-zone", "Europe/Paris")]
)
def test_the_centre_s_rules_are_not_mixed_with_typed_ones(home: Path, words: tuple[str, ...]) -> None:
    done = run_arcgate("decode", frame("77"), "--config", home / "arcgate.toml", *words)
    assert done.returncode == 2
    assert "leave the options for them out" in " ".join(done.stderr.replace("│", "").split())
