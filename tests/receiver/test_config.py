from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols import AnyProtocol
from protocols.bosch import Bosch
from protocols.dc09 import Dc09
from protocols.surgard import SurGard
from receiver import accounts, config
from receiver.config import USUAL, Guarantees, Redis
from receiver.load import ConfigError

FIXTURES = Path(__file__).parents[2] / "fixtures"
MISTAKES = sorted((FIXTURES / "configs" / "mistakes").iterdir())

LISTENER = '[[listener]]\nname = "ip"\nprotocol = "dc09"\ntransport = "tcp"\naddress = "127.0.0.1:0"\n'


def expected(path: Path) -> list[str]:
    """The `# expect:` lines at the head of a file with mistakes; PROTOCOLS stands for the words of all of them."""
    lines = path.read_bytes().decode("latin-1").splitlines()
    known = ", ".join(str(member.__struct_config__.tag) for member in get_args(AnyProtocol))
    return [line.removeprefix("# expect: ").replace("PROTOCOLS", known) for line in lines if line.startswith("# expect: ")]


def test_the_good_file_is_read_with_paths_from_its_folder() -> None:
    path = FIXTURES / "configs" / "good" / "arcgate.toml"
    loaded = config.load(path)
    assert (loaded.state_dir, loaded.accounts, loaded.sites) == tuple(
        path.parent / name for name in ("state", "accounts", "sites")
    )
    assert loaded.redis == Redis(url="embedded", centre="main")
    assert (loaded.node, loaded.segment_bytes, loaded.retention_days) == ("lyon-2", 104_857_600, 400)
    assert loaded.digest_secret == bytes.fromhex("00112233445566778899aabbccddeeff")
    assert (loaded.free_bytes_min, loaded.undelivered_s, loaded.refuse_when_undelivered) == (1 << 30, 45.5, True)
    assert loaded.alert_command == ("/usr/local/bin/alert", "--to", "on-call")
    first, second, udp, tls, mlr2, system3, bosch, calls = loaded.listeners
    assert (first.name, first.protocol, first.transport, first.address) == ("ip", Dc09(), "tcp", "127.0.0.1:12000")
    assert (first.host, first.port, first.connections_max, first.idle_s) == ("127.0.0.1", 12000, 500, 30.5)
    assert (second.host, second.port, second.connections_max, second.idle_s) == ("::1", 12000, 2000, 60)
    assert (second.allow, second.certificate, second.private_key, second.client_ca) == ((), None, None, None)
    assert (udp.transport, udp.address, udp.allow) == ("udp", first.address, ("192.0.2.0/24", "2001:db8::/32"))
    folder = path.parent
    files = tuple(str(folder / name) for name in ("tls/certificate.pem", "tls.key", "tls/panels.pem"))
    assert (tls.certificate, tls.private_key, tls.client_ca) == files
    assert loaded.drift_s_max == 120
    assert (mlr2.transport, mlr2.address, mlr2.speed, mlr2.parity, mlr2.bits) == ("serial", "/dev/ttyUSB0", 1200, "even", 7)
    assert (system3.transport, system3.host, system3.port, system3.heartbeat_s) == ("dial", "192.0.2.7", 1025, 30)
    assert (calls.transport, calls.address) == ("spool", "/var/spool/asterisk/alarm_events")
    assert (bosch.protocol, mlr2.protocol) == (Bosch(experimental=True), SurGard())


def test_a_private_key_may_be_in_systemds_credentials_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "tls.key").touch()
    path = FIXTURES / "configs" / "good" / "arcgate.toml"
    (tls,) = (listener for listener in config.load(path).listeners if listener.name == "tls")
    assert (tls.private_key, tls.certificate) == (str(tmp_path / "tls.key"), str(path.parent / "tls" / "certificate.pem"))


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "arcgate.toml"
    path.write_text(LISTENER)
    loaded = config.load(path)
    assert (loaded.state_dir, loaded.accounts, loaded.sites) == (tmp_path / "state", tmp_path / "accounts", tmp_path / "sites")
    assert loaded.redis == Redis()
    assert all(getattr(loaded, key) == getattr(USUAL, key) for key in Guarantees.__struct_fields__)
    assert loaded.digest_secret == b""


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    path = tmp_path / "arcgate.toml"
    path.write_text(f'state_dir = "/var/lib/arcgate"\n{LISTENER}')
    assert config.load(path).state_dir == Path("/var/lib/arcgate")


@pytest.mark.parametrize(("written", "read"), [('"alert --now"', "alert --now"), ('["alert", "--now"]', ("alert", "--now"))])
def test_what_runs_as_an_alert_is_a_line_or_a_list(tmp_path: Path, written: str, read: object) -> None:
    path = tmp_path / "arcgate.toml"
    path.write_text(f"alert_command = {written}\n{LISTENER}")
    assert config.load(path).alert_command == read


def test_a_digest_key_may_be_in_a_file_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path, key = tmp_path / "arcgate.toml", tmp_path / "digest.key"
    path.write_text(f'digest_key = "credential:digest.key"\n{LISTENER}{LISTENER}')
    twice = f"{path}: listener[1].name: another listener has this name too: each needs its own"
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    told = str(caught.value).splitlines()
    assert twice in told
    assert told[-1] == f"{path}: digest_key: {key}: No such file or directory: put the secret there, with mode 0600"
    path.write_text(path.read_text().removesuffix(LISTENER))
    key.write_bytes(b"correct horse\n")
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"digest_key: .*digest\.key: others may read it: chmod 600"):
        config.load(path)
    key.chmod(0o600)
    assert config.load(path).digest_secret == b"correct horse"


def test_two_listeners_may_leave_the_port_to_the_system(tmp_path: Path) -> None:
    path = tmp_path / "arcgate.toml"
    path.write_text(LISTENER + LISTENER.replace('"ip"', '"ip2"'))
    assert [listener.port for listener in config.load(path).listeners] == [0, 0]


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.stem)
def test_each_mistake_is_told_with_its_path_and_what_to_do(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).splitlines() == [f"{path}: {line}" for line in expected(path)]


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(), st.text().map(str.encode), st.text().map(lambda text: f"{LISTENER}{text}".encode())))
def test_any_bytes_are_a_config_or_a_config_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "arcgate.toml"
    path.write_bytes(data)
    try:
        config.load(path)
    except ConfigError as error:
        assert error.mistakes  # noqa: PT017 - either outcome is right


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "PLACES", (Path("arcgate.toml"), tmp_path / "etc.toml"))
    monkeypatch.delenv("ARCGATE_CONFIG", raising=False)
    (tmp_path / "etc.toml").touch()
    assert config.find(None) == tmp_path / "etc.toml"
    (tmp_path / "arcgate.toml").touch()
    assert config.find(None) == Path("arcgate.toml")
    (tmp_path / "named.toml").touch()
    monkeypatch.setenv("ARCGATE_CONFIG", str(tmp_path / "named.toml"))
    assert config.find(None) == tmp_path / "named.toml"
    assert config.find(tmp_path / "etc.toml") == tmp_path / "etc.toml"


def test_no_file_anywhere_is_told_with_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCGATE_CONFIG", raising=False)
    monkeypatch.setattr(config, "PLACES", (Path("arcgate.toml"), tmp_path / "etc.toml"))
    with pytest.raises(ConfigError, match=r"looked for arcgate\.toml and .*etc\.toml; name yours with --config"):
        config.find(None)
    with pytest.raises(ConfigError, match=r"looked for nowhere\.toml;"):
        config.find(Path("nowhere.toml"))


def test_the_files_that_a_newcomer_gets_have_no_mistake() -> None:
    loaded = config.load(FIXTURES / "first" / "arcgate.toml")
    panels, mistakes = accounts.load(loaded.accounts)
    assert not mistakes
    assert panels.policy(loaded.listeners[0].name, None, "0", "1234")
