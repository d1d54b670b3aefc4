from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch import sites
from dispatch.alarm import Priority
from dispatch.conditions import Between, CodeIs
from dispatch.sites import Contact, Site, Zone
from receiver.accounts import AccountAt

FIXTURES = Path(__file__).parents[2] / "fixtures"
MISTAKES = sorted((FIXTURES / "sites" / "mistakes").iterdir())


def test_the_good_folder_is_read() -> None:
    loaded, mistakes = sites.load(FIXTURES / "sites" / "good")
    assert not mistakes
    assert len(loaded) == 4
    corner = loaded.get("corner")
    assert corner is not None
    assert (corner.name, corner.time_zone, corner.language) == ("Corner shop", "Europe/Paris", "fr")
    assert corner.accounts == ("00AB", AccountAt("77", listener="ip", receiver="1", line="2"))
    assert [instruction.priority for instruction in corner.instructions] == [Priority.CONFIRMED, Priority.LOG]
    assert corner.instructions[0].when[-1] == Between("22:00", "06:00", ("fri", "sat"))
    assert corner.instructions[1].when == (CodeIs(("602",), "contact_id"),)


def test_the_site_that_a_newcomer_gets_has_no_mistake() -> None:
    loaded, mistakes = sites.load(FIXTURES / "first" / "sites")
    assert not mistakes
    bakery = loaded.find("ip", None, "0", "1234")
    assert bakery is not None
    assert (bakery.id, len(bakery.instructions)) == ("first", 3)


def test_a_site_is_found_by_what_was_sent_the_most_specific_first() -> None:
    loaded, _ = sites.load(FIXTURES / "sites" / "good")

    def found(listener: str, receiver: str | None, line: str | None, account: str) -> str | None:
        site = loaded.find(listener, receiver, line, account)
        return site.id if site else None

    assert found("serial", None, "0", "1234") == "Depot 1"
    assert found("ip", None, "0", "1234") == "d2"
    assert found("ip", None, None, "00ab") == "corner"
    assert found("ip", None, None, "ab") is None
    assert found("ip", "1", "2", "77") == "corner"
    assert found("ip", "1", "3", "77") is None
    assert loaded.get("nowhere") is None


def test_a_site_is_found_by_an_account_that_a_receiver_filled_with_zeros() -> None:
    known = sites.Sites()
    known.add(sites.Site(("1234",), "shop", "Shop"))
    found = known.find("sg", "01", "1", "001234")
    assert found
    assert found.id == "shop"


def test_id_and_name_stand_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "café.toml").write_text("accounts = []")
    (tmp_path / "bulk.jsonl").write_text('{"id": "i", "accounts": []}\n{"name": "n", "accounts": []}\n{"accounts": []}\n')
    loaded, mistakes = sites.load(tmp_path)
    assert [str(mistake) for mistake in mistakes] == [f"{tmp_path}/bulk.jsonl:3: id: is missing: give an `id` or a `name`"]
    for key in ("café", "i", "n"):
        assert loaded.get(key) == Site((), id=key, name=key)


def test_zones_are_found_without_leading_zeros() -> None:
    loaded, _ = sites.load(FIXTURES / "sites" / "good")
    corner = loaded.get("corner")
    assert corner is not None
    assert corner.zone("1") == Zone("Porte")
    assert corner.zone("002") == Zone("Réserve", "1")
    assert corner.zone("3") is None


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.stem)
def test_each_mistake_is_told_with_its_path_and_what_to_do(path: Path, tmp_path: Path) -> None:
    home = tmp_path / path.name
    home.write_bytes(path.read_bytes())
    _, mistakes = sites.load(tmp_path)
    lines = [line.removeprefix("# expect: ") for line in path.read_text().splitlines() if line.startswith("# expect: ")]
    assert lines
    assert [str(mistake) for mistake in mistakes] == [f"{home}: {line}" for line in lines]


def test_what_two_files_both_claim_is_told_with_both(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('accounts = ["12ab", { number = "12ab", listener = "ip" }]')
    (tmp_path / "b.jsonl").write_text(
        '{"id": "a", "accounts": ["1"]}\n{"id": "b", "accounts": ["2", "12AB"]}\n'
        '{"id": "c", "accounts": ["1", {"number": "12AB", "listener": "ip"}, {"number": "12AB", "listener": "ip2"}]}\n'
    )
    loaded, mistakes = sites.load(tmp_path)
    assert len(loaded) == 3
    assert [str(mistake) for mistake in mistakes] == [
        f"{tmp_path}/b.jsonl:1: id: site 'a' is in {tmp_path}/a.toml too: each belongs to one site",
        f"{tmp_path}/b.jsonl:2: accounts[1]: account 12AB is in {tmp_path}/a.toml too: each belongs to one site",
        f"{tmp_path}/b.jsonl:3: accounts[1]: account 12AB, listener ip is in {tmp_path}/a.toml too: each belongs to one site",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(st.binary(), st.text().map(lambda text: f'{{"name": "a", "accounts": [], "time_zone": "{text}"}}'.encode()))
)
def test_any_bytes_are_sites_or_mistakes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(data)
    (tmp_path / "a.jsonl").write_bytes(data)
    _, mistakes = sites.load(tmp_path)
    assert all(str(tmp_path) in str(mistake) for mistake in mistakes)


def test_a_missing_folder_is_empty(tmp_path: Path) -> None:
    loaded, mistakes = sites.load(tmp_path / "sites")
    assert (len(loaded), mistakes) == (0, [])


def test_a_ghost_stands_for_an_account_that_no_site_names() -> None:
    ghost = sites.ghost("ip", "12ab")
    assert (ghost.id, ghost.name) == ("ghost:12AB", "Unknown account 12ab")


def test_a_contact_does_not_show_in_a_log() -> None:
    site = Site((), contacts=(Contact("Anna", phone="+33 1 99 00 12 34"),))
    assert "99 00" not in repr(site)
    assert "Anna" not in repr(site)
