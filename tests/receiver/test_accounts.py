from pathlib import Path

import pytest

from receiver import accounts
from receiver.accounts import Account

FIXTURES = Path(__file__).parents[2] / "fixtures" / "configs" / "accounts"
MISTAKES = sorted((FIXTURES / "mistakes").iterdir())


def test_the_good_folder_is_read_and_hidden_and_other_files_are_not() -> None:
    loaded, mistakes = accounts.load(FIXTURES / "good")
    assert not mistakes
    assert len(loaded) == 4
    assert loaded.find("ip", None, "0", "0042") == Account("0042")
    assert loaded.find("ip", None, "0", "42") == Account("42")
    assert loaded.find("ip", None, "0", "042") is None


def test_the_most_specific_account_is_found_without_case() -> None:
    loaded, _ = accounts.load(FIXTURES / "good")
    assert loaded.find("ip", "1", "a", "1234") == Account("1234", listener="ip", receiver="1", line="A")
    assert loaded.find("ip", None, "a", "1234") == Account("1234")
    assert loaded.find("ip2", "1", "A", "1234") == Account("1234")


def test_more_places_named_are_more_specific_and_listener_goes_first() -> None:
    loaded = accounts.Accounts()
    for account in (
        Account("ab", line="1"),
        Account("ab", receiver="1"),
        Account("ab", listener="ip"),
        Account("ab", receiver="1", line="1"),
    ):
        assert loaded.add(account) is None
    assert loaded.find("ip", "1", "1", "AB") == Account("ab", receiver="1", line="1")
    assert loaded.find("ip", "1", "2", "AB") == Account("ab", listener="ip")
    assert loaded.find("ip2", "1", "2", "AB") == Account("ab", receiver="1")
    assert loaded.find("ip2", "2", "2", "AB") is None


def test_an_account_that_a_receiver_filled_with_zeros_is_found_if_only_one_can_be_meant() -> None:
    loaded = accounts.Accounts()
    for number in ("1234", "0042", "777", "00777", "005678", "5678"):
        loaded.add(Account(number))
    assert loaded.find("sg", "01", "1", "001234") == loaded.find("sg", "01", "1", "0000001234") == Account("1234")
    assert loaded.find("sg", "01", "1", "000042") == Account("0042")
    assert loaded.find("sg", "01", "1", "005678") == Account("005678"), "as sent first"
    assert loaded.find("sg", "01", "1", "000777") is None, "777 or 00777"
    assert loaded.find("ip", None, "0", "0777") is None, "four digits are a panel's own"
    assert loaded.find("sg", "01", "1", "000000") is None


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
