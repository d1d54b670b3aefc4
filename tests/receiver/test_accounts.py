import re
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from protocols.link import Policy
from receiver import accounts
from receiver.accounts import Account, AccountAt

README = Path(__file__).parents[2] / "README.md"
FIXTURES = README.parent / "fixtures" / "configs" / "accounts"
MISTAKES = sorted((FIXTURES / "mistakes").iterdir())


def rule(number: int) -> Policy:
    """A policy to be told from others."""
    return Policy(heartbeat=frozenset({str(number)}))


def key(number: int) -> Policy:
    return Policy(keys=(bytes([number]) * 16,))


def test_the_good_folder_is_read_and_hidden_and_other_files_are_not() -> None:
    loaded, mistakes = accounts.load(FIXTURES / "good")
    assert not mistakes
    assert len(loaded) == 7
    assert loaded.policy("ip", None, "0", "0042") == Policy()
    assert loaded.policy("ip", None, "0", "42") == Policy()
    assert loaded.policy("ip", None, "0", "042") is None


def test_what_is_written_of_an_account_becomes_its_policy() -> None:
    loaded, _ = accounts.load(FIXTURES / "good")
    assert loaded.policy("ip", None, "0", "a1b2") == Policy(
        keys=(bytes.fromhex("00112233445566778899AABBCCDDEEFF"),),
        time="ignore",
        time_zone=ZoneInfo("Europe/Paris"),
        heartbeat=frozenset({"RP", "602"}),
    )
    assert loaded.policy("ip", None, "0", "5001") == Policy(keys=(b"a key of sixteen", b"and the old key, of 32 letters.."))
    assert loaded.policy("ip", None, "0", "5002") == Policy(keys=(b"a key of sixteen",), time="enforce_plain")


def test_equal_policies_are_one_object(tmp_path: Path) -> None:
    row = '{"number": "%d", "key": "ascii:a key of sixteen", "time_zone": "Europe/Paris", "heartbeat": ["RP"]}'
    (tmp_path / "bulk.jsonl").write_text("\n".join(row % number for number in range(9)) + '\n{"number": "9"}\n{"number": "10"}')
    loaded, _ = accounts.load(tmp_path)
    assert len({id(loaded.policy("ip", None, "0", str(number))) for number in range(9)}) == 1
    assert loaded.policy("ip", None, "0", "9") is loaded.policy("ip", None, "0", "10")


def test_an_account_shows_no_key() -> None:
    written = Account("1234", "ip", key="ascii:a key of sixteen")
    assert "sixteen" not in f"{written} {written!r} {written.__rich_repr__()} {[written]}"
    assert repr(written) == "Account(account 1234, listener ip)"


def test_the_most_specific_account_is_found_without_case() -> None:
    loaded = accounts.Accounts()
    loaded.add(AccountAt("1234"), rule(1))
    loaded.add(AccountAt("1234", listener="ip", receiver="1", line="A"), rule(2))
    assert loaded.policy("ip", "1", "a", "1234") == rule(2)
    assert loaded.policy("ip", None, "a", "1234") == rule(1)
    assert loaded.policy("ip2", "1", "A", "1234") == rule(1)


def test_more_places_named_are_more_specific_and_listener_goes_first() -> None:
    loaded = accounts.Accounts()
    for n, account in enumerate(
        (
            AccountAt("ab", line="1"),
            AccountAt("ab", receiver="1"),
            AccountAt("ab", listener="ip"),
            AccountAt("ab", receiver="1", line="1"),
        )
    ):
        assert loaded.add(account, rule(n)) is None
    assert loaded.policy("ip", "1", "1", "AB") == rule(3)
    assert loaded.policy("ip", "1", "2", "AB") == rule(2)
    assert loaded.policy("ip2", "1", "2", "AB") == rule(1)
    assert loaded.policy("ip2", "2", "2", "AB") is None


def test_an_account_that_a_receiver_filled_with_zeros_is_found_if_only_one_can_be_meant() -> None:
    loaded = accounts.Accounts()
    numbers = ("1234", "0042", "777", "00777", "005678", "5678")
    for n, number in enumerate(numbers):
        loaded.add(Account(number), rule(n))

    def found(sent: str) -> str | None:
        policy = loaded.policy("sg", "01", "1", sent)
        return numbers[int(min(policy.heartbeat))] if policy else None

    assert found("001234") == found("0000001234") == "1234"
    assert found("000042") == "0042"
    assert found("005678") == "005678", "as sent first"
    assert found("000777") is None, "777 or 00777"
    assert found("0777") is None, "four digits are a panel's own"
    assert found("000000") is None


def test_a_key_of_another_place_is_asked_of_whoever_writes_a_place_that_nobody_named() -> None:
    """He writes his receiver and line himself, and a site is found without them: else they would get him around the key."""
    loaded = accounts.Accounts()
    loaded.add(AccountAt("0050", receiver="1"), key(1))
    loaded.add(AccountAt("0050", receiver="2"), key(2))
    loaded.add(AccountAt("0050", receiver="3"), rule(3))
    assert loaded.policy("ip", "1", "0", "0050") == key(1)
    assert loaded.policy("ip", "3", "0", "0050") == rule(3), "named, and without a key"
    both = Policy(keys=key(1).keys + key(2).keys)
    assert loaded.policy("ip", "4", "0", "0050") == loaded.policy("udp", None, None, "0050") == both
    assert loaded.policy("ip", None, "0", "00050") == both, "filled with zeros"
    assert loaded.policy("ip", None, "0", "0051") is None


def test_a_key_is_asked_where_zeros_leave_two_accounts_that_may_be_meant() -> None:
    loaded = accounts.Accounts()
    for number, policy in (("0060", key(1)), ("060", rule(2)), ("0070", rule(3)), ("070", rule(4))):
        loaded.add(AccountAt(number), policy)
    assert loaded.policy("ip", None, "0", "00060") == key(1)
    assert loaded.policy("ip", None, "0", "00070") is None


def test_a_missing_folder_is_empty(tmp_path: Path) -> None:
    loaded, mistakes = accounts.load(tmp_path / "accounts")
    assert (len(loaded), mistakes) == (0, [])


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "accounts").touch()
    _, mistakes = accounts.load(tmp_path / "accounts")
    assert [mistake.message for mistake in mistakes] == ["this folder cannot be read: Not a directory"]


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.stem)
def test_each_mistake_is_told_with_its_path_and_what_to_do(path: Path, tmp_path: Path) -> None:
    home = tmp_path / path.name
    home.write_bytes(path.read_bytes())
    _, mistakes = accounts.load(tmp_path)
    lines = [line.removeprefix("# expect: ") for line in path.read_text().splitlines() if line.startswith("# expect: ")]
    assert [str(mistake) for mistake in mistakes] == [f"{home}: {line}" for line in lines]


def test_an_account_in_two_files_is_told_with_both(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[[account]]\nnumber = "12ab"\n[[account]]\nnumber = "12ab"\nline = "1"\n')
    (tmp_path / "b.jsonl").write_text('{"number": "77"}\n{"number": "12AB"}\n{"number": "12AB", "line": "1"}\n')
    loaded, mistakes = accounts.load(tmp_path)
    assert len(loaded) == 3
    told = f"is in {tmp_path}/a.toml too: keep one, or name the listener, receiver or line of each"
    assert [str(mistake) for mistake in mistakes] == [
        f"{tmp_path}/b.jsonl:2: number: account 12AB {told}",
        f"{tmp_path}/b.jsonl:3: number: account 12AB, line 1 {told}",
    ]


def test_a_folder_in_place_of_a_file_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    (tmp_path / "b.toml").mkdir()
    (tmp_path / "c.jsonl").write_text('{"number": "1"}')
    loaded, mistakes = accounts.load(tmp_path)
    assert len(loaded) == 1
    assert [str(mistake) for mistake in mistakes] == [
        f"{tmp_path}/{name}: cannot be read: Is a directory" for name in ("a.jsonl", "b.toml")
    ]


def test_the_mistakes_of_a_line_carry_its_number_and_other_lines_are_read(tmp_path: Path) -> None:
    lines = [b'{"number": "1", "kye": "secret"}', b"", b'{"number": 7}', b"{", b'"\xff"', b"[" * 100_000, b'{"number": "2"}']
    (tmp_path / "bulk.jsonl").write_bytes(b"\n".join(lines))
    loaded, mistakes = accounts.load(tmp_path)
    assert len(loaded) == 1
    assert [mistake.file.removeprefix(f"{tmp_path}/") for mistake in mistakes] == [f"bulk.jsonl:{n}" for n in (1, 3, 4, 5, 6)]
    assert [mistake.path for mistake in mistakes] == ["kye", "number", "", "", ""]
    assert "secret" not in "".join(map(str, mistakes))


def test_a_file_full_of_mistakes_is_not_told_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "bulk.jsonl").write_text("{}\n" * 5000)
    _, mistakes = accounts.load(tmp_path)
    assert len(mistakes) == 1001
    assert "the rest of this file was not read" in mistakes[-1].message


def test_the_readme_explains_each_key() -> None:
    table = README.read_text().partition("| key of an account |")[2].partition("\n\n")[0]
    told = [word for row in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert told == [field.name for field in msgspec.structs.fields(Account)]
