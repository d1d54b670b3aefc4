"""What people did, from the command line."""

import json
from contextlib import closing
from pathlib import Path

from dispatch.register import Act, Register
from tests.conftest import CONFIG, Gateway, run_arcgate, sia

FIELDS = ["position", "at", "id", "act", "alarm", "site", "operator", "fence", "events", "priority", "cursors", "outcome", "note"]


async def test_what_was_done_is_listed_with_its_note_and_verified_and_the_log_has_no_note(gateway: Gateway) -> None:
    await gateway.send(sia("1234", "Nri1/FA5", 1))
    (alarm,) = gateway.told("alarms", "claim", "--operator", "anna")
    words = ("--fence", alarm["fence"], "--seen", "1", "--outcome", "real", "--note", "Mme Dumont was there")
    gateway.told("alarms", "close", alarm["id"], *words)
    while len(acts := gateway.told("register", "list")) < 2:
        pass  # dispatch copies them by itself

    claim, close = acts
    assert list(close)[: len(FIELDS)] == FIELDS
    assert (claim["position"], claim["act"], claim["operator"], claim["alarm"]) == (1, "claim", "anna", alarm["id"])
    assert (close["act"], close["outcome"], close["note"]) == ("close", "real", "Mme Dumont was there")
    assert (close["priority"], close["events"], close["fence"]) == (1, 1, alarm["fence"])
    assert close["at"].endswith("Z")
    assert close["cursors"] == {alarm["id"].rpartition("-")[0].rpartition("-")[0]: 1}

    page = gateway.arcgate("register", "list").stdout.splitlines()
    assert len(page) == 3
    assert page[0].endswith(f" UTC  claim  by anna  fire  {close['site']}  {alarm['id']}  1 event")
    assert page[2].strip() == "real  Mme Dumont was there"
    after = gateway.arcgate("register", "list", "--after", "0", "--limit", "1", "--json")
    assert [json.loads(line)["position"] for line in after.stdout.splitlines()] == [1]
    assert after.stderr == "up to 1 of 2: `--after 1` goes on, `--limit 0` shows all\n"

    (told,) = gateway.told("register", "verify")
    assert (told["ok"], told["entries"], told["not_compared"]) == (True, 2, [])
    assert [one["source"] for one in told["compared"]] == ["redis"]
    assert "alarm_closed" in gateway.log.read_text()
    assert "Dumont" not in gateway.log.read_text()


def test_what_cannot_be_shown_moves_no_cursor_and_stops_no_list(tmp_path: Path) -> None:
    config = tmp_path / "arcgate.toml"
    config.write_text(CONFIG)
    with closing(Register(tmp_path / "state")) as register:
        odd = {"act": "hold", "operator": "\x1b[2J", "note": "line\nline"}
        register.append([Act.read("99999999999999-0", odd)])
    done = run_arcgate("register", "list", "--config", config)
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("        1  5138-11-16 09:46:39 UTC  hold  by \ufffd[2J  log  ")
    assert second == f"{'':11}line\ufffdline"


def test_without_a_register_it_says_what_makes_one(tmp_path: Path) -> None:
    config = tmp_path / "arcgate.toml"
    config.write_text(CONFIG)
    for verb, code in (("list", 2), ("verify", 1)):
        done = run_arcgate("register", verb, "--config", config)
        assert done.returncode == code
        assert "register: there is none yet: `arcgate run` makes it" in done.stderr
