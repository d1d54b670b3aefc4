"""What was received, from the command line, and the proof that it is what was written."""

import json
import sqlite3
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path

from protocols import dc09
from tests.conftest import ARCGATE, CONFIG, Gateway, run_arcgate, sia

FIELDS = ["position", "received_at", "listener", "peer", "frame", "events", "digest"]


async def test_entries_are_listed_from_a_position_or_the_last_ones_and_followed(gateway: Gateway) -> None:
    frames = [sia("1234", "Nri1/BA5", n) for n in range(1, 6)]
    await gateway.send(*frames)

    entries = gateway.told("journal", "list")
    assert [entry["position"] for entry in entries] == [1, 2, 3, 4, 5]
    first = entries[0]
    assert list(first)[:7] == FIELDS
    assert first["frame"] == dc09.build(frames[0]).decode().replace("\n", r"\n").replace("\r", r"\r")
    assert first["received_at"].endswith("Z")
    assert (first["listener"], first["events"][0]["code"], first["error"]) == ("ip", "BA", None)

    assert [entry["position"] for entry in gateway.told("journal", "list", "--limit", "2")] == [4, 5]
    after = gateway.arcgate("journal", "list", "--after", "1", "--limit", "2", "--json")
    assert [json.loads(line)["position"] for line in after.stdout.splitlines()] == [2, 3]
    assert after.stderr == "up to 3 of 5: `--after 3` goes on, `--limit 0` shows all\n"
    page = gateway.arcgate("journal", "list", "--limit", "0").stdout
    assert page.count(r"[#1234|Nri1/BA5]\r") == 5

    words = ("journal", "list", "--follow", "--json", "--after", "4", "--config", str(gateway.config))
    following = await create_subprocess_exec(ARCGATE, *words, stdout=PIPE)
    assert following.stdout
    assert json.loads(await following.stdout.readline())["position"] == 5
    await gateway.send(sia("1234", "Nri1/BA6", 6))
    assert json.loads(await following.stdout.readline())["position"] == 6
    following.terminate()
    await following.wait()


async def test_one_flipped_byte_is_found_and_its_entry_named(gateway: Gateway) -> None:
    await gateway.send(*(sia("1234", f"Nri1/BA{n}", n) for n in range(1, 21)))
    gateway.stop()
    (path,) = (gateway.state_dir / "journal").glob("*.db")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()

    done = gateway.arcgate("journal", "verify")
    assert done.returncode == 0
    journal, _, said = done.stdout.partition(": ")
    assert said.startswith("20 entries, head digest ")
    assert said.endswith(": unaltered\n")

    for mask in (0x01, 0x80):  # another letter; no UTF-8 any more
        whole = path.read_bytes()
        at = whole.index(b"Nri1/BA13")
        path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
        done = gateway.arcgate("journal", "verify", "--json")
        told = json.loads(done.stdout)
        assert done.returncode == 1
        assert (told["journal"], told["entries"], told["ok"], told["entry"]) == (journal, 0, False, 13)
        assert "entry 13 was altered" in done.stderr
        assert told["error"] == done.stderr.strip()
        path.write_bytes(whole)


def test_without_a_journal_verify_says_what_makes_one(tmp_path: Path) -> None:
    config = tmp_path / "arcgate.toml"
    config.write_text(CONFIG)
    done = run_arcgate("journal", "verify", "--config", config)
    assert done.returncode == 1
    assert "there is no journal yet" in done.stderr
