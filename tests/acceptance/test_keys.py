"""A panel's key is in its file and in the receiver's memory, and nowhere else, whatever is sent and whoever asks."""

import asyncio
from pathlib import Path

from protocols.dc09 import Frame, build
from tests.acceptance.conftest import Centre
from tests.conftest import run_arcgate, sia

HEX = "6A7F00C1D2E3F4A5B697887766554433"
OLD_HEX = "F1E2D3C4B5A69788796A5B4C3D2E1F00F1E2D3C4B5A69788"
ASCII = "Orchid-Quartz-77"
FILE = "Velvet/Marble#4213-Velvet/Marble"
SECRETS = (
    *(HEX.encode(), HEX.lower().encode(), bytes.fromhex(HEX), OLD_HEX.encode(), OLD_HEX.lower().encode(), bytes.fromhex(OLD_HEX)),
    *(ASCII.encode(), ASCII.encode().hex().encode(), FILE.encode(), FILE.encode().hex().encode()),
)
"""Each key as it is written, and as it could show."""
ACCOUNTS = f"""
[[account]]
number = "1001"
key = ["hex:{HEX}", "hex:{OLD_HEX}"]

[[account]]
number = "1002"
key = "ascii:{ASCII}"

[[account]]
number = "1003"
key = "credential:panel-1003"
"""


MISTAKES = (
    f'key = "{HEX}"',
    f'key = "hex:{HEX}0"',
    f'key = "hex:{HEX}{HEX[:2]}"',
    f'key = "hex: {HEX}"',
    f'key = "ascii:{ASCII}!"',
    f'key = ["ascii:{ASCII}"',
    f'key = ["ascii:{ASCII}", "hex:{HEX}", "hex:{OLD_HEX}"]',
    f'key = {{ hex = "{HEX}" }}',
    f'key = "ascii:{ASCII}',
    f'kee = "hex:{HEX}"',
    f'time = "hex:{HEX}"',
    f'time_zone = "hex:{HEX}"',
    f'heartbeat = ["hex:{HEX}"]',
    f'number = "hex:{HEX}"',
    f"key = hex:{HEX}",
    f"key = 0x{HEX}",
)
"""What people write in an account, wrong in one way each."""


def bytes_of(folder: Path) -> dict[Path, bytes]:
    """All that lies in a folder, but for what a person wrote there."""
    written = {"panels.toml", "panel-1003"}
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in written}


def assert_none(what: str, content: bytes) -> None:
    for secret in SECRETS:
        for form in (secret, repr(secret)[2:-1].encode()):
            assert form not in content, what


def give_keys(centre: Centre) -> Centre:
    """Give the centre's panels keys."""
    (centre.home / "accounts").mkdir()
    (centre.home / "accounts" / "panels.toml").write_text(ACCOUNTS)
    (centre.home / "panel-1003").write_text(FILE)
    (centre.home / "panel-1003").chmod(0o600)
    return centre


async def test_no_key_shows_in_logs_journal_queue_status_or_replies(centre: Centre) -> None:
    keyed = give_keys(centre)
    keyed.start()
    await keyed.send(sia("1004", "Nri1/BA1"))
    host, _, port = (await keyed.address()).rpartition(":")
    frames = [
        build(frame)
        for account in ("1001", "1002", "1003", "9999")
        for frame in (
            sia(account, "Nri1/BA1"),
            Frame(id_token="*SIA-DCS", sequence="0002", account=account, data="A5" * 32),
            Frame(id_token="*NULL", sequence="0003", account=account, data="A5" * 32),
            Frame(id_token="XYZ", sequence="0004", account=account),
        )
    ]
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"".join(frames))
    replies = b""
    while b'"DUH"0004L0#9999' not in replies:  # the answer to the last one
        replies += await asyncio.wait_for(reader.readuntil(b"\r"), 10)
    writer.close()
    assert_none("a reply", replies)
    done = run_arcgate("decode", stdin=frames[1])
    assert_none("decode", (done.stdout + done.stderr).encode())
    done = keyed.arcgate("panel", "send", "--to", f"{host}:{port}", "--account", "1002", "--code", "BA")
    assert_none("panel", (done.stdout + done.stderr).encode())
    await keyed.settled()
    for words in (("status", "--json"), ("check",), ("alarms", "list"), ("journal", "list")):
        done = keyed.arcgate(*words)
        assert done.returncode == 0, done.stderr
        assert_none(" ".join(words), (done.stdout + done.stderr).encode())
    assert keyed.stop() == 0
    found = bytes_of(keyed.home)
    assert {"log.jsonl", "arcgate.toml"} < {path.name for path in found}
    assert any("valkey" in path.parts for path in found)
    assert any("journal" in path.parts for path in found)
    for path, content in found.items():
        assert_none(str(path), content)


def test_a_mistake_in_a_key_is_told_without_the_key(tmp_path: Path) -> None:
    centre = Centre(tmp_path)
    (tmp_path / "accounts").mkdir()
    paths = []
    for n, wrong in enumerate(MISTAKES):
        key, _, value = wrong.partition(" = ")
        by_hand, bulk = tmp_path / "accounts" / f"{n}.toml", tmp_path / "accounts" / f"{n}.jsonl"
        by_hand.write_text(f'[[account]]\nnumber = "{n}"\n{wrong}\n')
        bulk.write_text("".join((f'{{"number": "9{n}", "', key, '": ', value.replace(" hex =", '"hex":'), "}")))
        paths += [by_hand, bulk]
    for verb in ("check", "run"):
        done = centre.arcgate(verb)
        assert done.returncode == 2
        assert [path.name for path in paths if f"{path}:" not in done.stderr] == []
        assert "Traceback" not in done.stderr
        assert_none(verb, (done.stdout + done.stderr).encode())


def test_check_finds_the_credentials_beside_the_configuration(tmp_path: Path) -> None:
    keyed = give_keys(Centre(tmp_path))
    done = keyed.arcgate("check")
    assert done.returncode == 0, done.stderr
    assert "3 accounts" in done.stdout
    (keyed.home / "panel-1003").chmod(0o640)
    done = keyed.arcgate("check")
    assert done.returncode == 2
    assert "account[2].key: " in done.stderr
    assert "others may read it: chmod 600" in done.stderr
    assert_none("check", done.stderr.encode())
