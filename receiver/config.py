"""
The gateway's own file, arcgate.toml: where things are, and what listens where.

    find() -> path -> load() -> Config, or ConfigError with every mistake
"""

import os
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from ipaddress import ip_network
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from protocols import AnyProtocol
from protocols.asterisk import Asterisk
from receiver.load import ConfigError, Mistake, toml
from receiver.secret import Secret, SecretError, reveal

PLACES: Final = (Path("arcgate.toml"), Path("/etc/arcgate/arcgate.toml"))
"""Where the file is looked for when neither `--config` nor $ARCGATE_CONFIG names it."""

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z", description="text of 1 to 64 of A-Z a-z 0-9 _ -")]
Folder = Annotated[str, Meta(pattern=r"\A[^\0]+\Z", description="text: the name of a folder")]
Url = Annotated[
    str,
    Meta(
        pattern=r"\A(embedded|rediss?://\S+|unix:///\S+)\Z",
        description='"embedded", or redis://, rediss:// or unix:// with an address',
    ),
]
Address = Annotated[
    str,
    Meta(
        pattern=r"\A(\[[0-9A-Fa-f:.]+(%\w+)?\]|[A-Za-z0-9._-]+):([1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]|\d{1,4})\Z|\A/[^\0]+\Z",
        description='host:port, as "127.0.0.1:12000" or "[::1]:12000"; a serial port, as "/dev/ttyS0"',
    ),
]

File = Annotated[str, Meta(pattern=r"\A[^\0]+\Z", description="text: the name of a file")]
_SERIAL_KEYS: Final = ("speed", "parity", "bits", "stop_bits")
_TLS_KEYS: Final = ("certificate", "private_key", "client_ca")


class Redis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the queue is."""

    url: Url = "embedded"
    """May hold a password: not for logs."""
    centre: Name = "main"
    """All keys of the centre share the hash tag {arcgate:<centre>}."""


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """One open door for panels or receivers."""

    name: Name
    transport: Annotated[
        Literal["tcp", "udp", "tls", "dial", "serial", "spool"],
        Meta(description='"tcp", "udp", "tls", "dial", "serial" or "spool"'),
    ]
    address: Address
    """As written; `host` and `port` are its parts. "dial": where the receiver waits; "serial", "spool": a path."""
    allow: tuple[Annotated[str, Meta(description='text: a network, as "192.0.2.0/24" or "2001:db8::/32"')], ...] = ()
    """The networks whose peers are let in; empty: all."""
    certificate: File | None = None
    """With `transport = "tls"`: a file in PEM, ours first, then those that lead to its root."""
    private_key: File | None = None
    client_ca: File | None = None
    """With it a peer must show a certificate that one of these has signed."""
    speed: Annotated[int, Meta(ge=50, le=4_000_000, description="a whole number of bits a second, 50 to 4000000")] | None = None
    """With `transport = "serial"`; without it 9600. The others: no parity, 8 bits, 1 stop bit."""
    parity: Annotated[Literal["none", "even", "odd"], Meta(description='"none", "even" or "odd"')] | None = None
    bits: Annotated[Literal[7, 8], Meta(description="7 or 8")] | None = None
    stop_bits: Annotated[Literal[1, 2], Meta(description="1 or 2")] | None = None
    heartbeat_s: Annotated[float, Meta(gt=0, le=86_400, description="more than 0 and at most 86400 seconds")] | None = None
    """How often the receiver sends its heartbeat; when two are missing, it is raised. Without it, its silence is no news."""
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number, 1 to 1000000")] = 2000
    idle_s: Annotated[float, Meta(gt=0, le=86_400, description="more than 0 and at most 86400 seconds")] = 60
    """Seconds until a peer that has not sent one valid frame is dropped."""
    protocol: AnyProtocol

    @property
    def host(self) -> str:
        """The address without its port; an IPv6 address without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0 to 65535; 0 lets the system choose. A serial port has none."""
        return -1 if self.address.startswith("/") else int(self.address.rpartition(":")[2])


class Guarantees(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys by which a centre says how long and how strictly its reports are kept. They stand on top of arcgate.toml."""

    node: Name = "main"
    """This machine's name: the journal's id begins with it."""
    segment_bytes: Annotated[int, Meta(ge=65_536, le=1 << 40, description="a whole number of bytes, 65536 or more")] = 1 << 30
    """A file of the journal or the register that is larger is closed, and a new one begun; a new day begins one too."""
    retention_days: Annotated[int, Meta(ge=1, le=36_500, description="a whole number of days, 1 to 36500")] | None = None
    """Older files of the journal and the register are deleted; without it, none."""
    digest_key: Secret | None = None
    """With it the digests are keyed: who does not have it cannot make new ones."""
    free_bytes_min: Annotated[int, Meta(ge=0, le=1 << 50, description="a whole number of bytes")] = 4 << 20
    """With less room on the journal's disk, no report is taken."""
    drift_s_max: Annotated[float, Meta(gt=0, le=86_400, description="more than 0 and at most 86400 seconds")] = 60
    """A panel whose clock is further off is raised as `clock_off`."""
    undelivered_s: Annotated[float, Meta(gt=0, le=86_400, description="more than 0 and at most 86400 seconds")] = 90
    """Reports that wait so long for the queue are raised on every channel that is left."""
    refuse_when_undelivered: bool = False
    """Whether the receiver then stops acknowledging, so that panels go to their other receiver."""
    alert_command: (
        Annotated[str, Meta(min_length=1, description="a line for /bin/sh, or a list of a program and its arguments")]
        | Annotated[tuple[str, ...], Meta(min_length=1)]
        | None
    ) = None
    """What to run then: a line for /bin/sh, or a program and its arguments."""


USUAL: Final = Guarantees()
"""What holds where nothing is said."""


class Config(Guarantees, frozen=True):
    """arcgate.toml, read: every path is absolute or starts where the gateway was started."""

    state_dir: Path
    accounts: Path
    sites: Path
    redis: Redis
    listeners: tuple[Listener, ...]
    digest_secret: bytes = b""
    """What `digest_key` names."""


def _flat(protocol: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """One table of a listener and its protocol's keys, so that both are written side by side and checked together."""
    own = [field for field in msgspec.structs.fields(Listener) if field.name != "protocol"]
    fields = [(field.name, field.type, field.default) for field in (*own, *msgspec.structs.fields(protocol))]
    tag = protocol.__struct_config__.tag
    return msgspec.defstruct(protocol.__name__, fields, tag_field="protocol", tag=tag, forbid_unknown_fields=True, kw_only=True)


_PROTOCOLS: Final[dict[Any, type[AnyProtocol]]] = {_flat(member): member for member in get_args(AnyProtocol) or (AnyProtocol,)}
_Listener: Any = reduce(or_, _PROTOCOLS)


class _File(Guarantees, frozen=True, forbid_unknown_fields=True):
    """arcgate.toml as it is written."""

    listener: Annotated[tuple[_Listener, ...], Meta(min_length=1, description="one [[listener]] or more")]
    state_dir: Folder = "state"
    accounts: Folder = "accounts"
    sites: Folder = "sites"
    redis: Redis = Redis()


def find(config: Path | None) -> Path:
    """
    Say which file to read: the given one, else $ARCGATE_CONFIG, ./arcgate.toml, /etc/arcgate/arcgate.toml.

    Raises ConfigError where there is none, with all the places.
    """
    named = config or os.environ.get("ARCGATE_CONFIG")
    places = (Path(named),) if named else PLACES
    for place in places:
        try:
            if place.exists():
                return place
        except OSError as error:
            raise ConfigError(
                [Mistake(str(place), "", f"cannot be looked at: {error.strerror}; are you the right user?")]
            ) from error
    looked = " and ".join(map(str, places))
    raise ConfigError(
        [Mistake("arcgate.toml", "", f"not there: looked for {looked}; name yours with --config or $ARCGATE_CONFIG")]
    )


def load(path: Path) -> Config:
    """Read arcgate.toml. Relative paths in it start at its folder. Raises ConfigError with every mistake."""
    mistakes: list[Mistake] = []
    content = toml(path, _File, mistakes)
    if content is None:
        raise ConfigError(mistakes)
    listeners = tuple(_listener(flat, path.parent) for flat in content.listener)
    mistakes += [Mistake(str(path), f"listener{where}", why) for where, why in _shared(listeners)]
    for n, listener in enumerate(listeners):
        mistakes += [Mistake(str(path), f"listener[{n}].{key}", why) for key, why in _contradictions(listener)]
    digest_key = b""
    try:
        digest_key = reveal(content.digest_key, path.parent) if content.digest_key else b""
    except SecretError as error:
        mistakes.append(Mistake(str(path), "digest_key", str(error)))
    if mistakes:
        raise ConfigError(mistakes)
    home = path.parent
    guarantees = {field: getattr(content, field) for field in Guarantees.__struct_fields__}
    return Config(
        home / content.state_dir,
        home / content.accounts,
        home / content.sites,
        content.redis,
        listeners,
        digest_key,
        **guarantees,
    )


def folders(path: Path) -> tuple[Path, Path]:
    """Say where the accounts and the sites are, as far as a file that may hold mistakes says it: so that all are told at once."""
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        raw = {}
    accounts, sites = (str(raw.get(key, key)).replace("\0", "") for key in ("accounts", "sites"))
    return path.parent / accounts, path.parent / sites


def _listener(flat: msgspec.Struct, home: Path) -> Listener:
    """Part a flat table into the listener and its protocol; its files start at the folder `home`."""
    values = msgspec.structs.asdict(flat)
    protocol = _PROTOCOLS[type(flat)]
    own = {field: values.pop(field) for field in Listener.__struct_fields__ if field != "protocol"}
    own |= {key: _file(own[key], home) for key in _TLS_KEYS if own[key]}
    return Listener(**own, protocol=protocol(**values))


def _file(name: str, home: Path) -> str:
    """Say where a file is: `credential:NAME` is in systemd's credentials folder, if it is there, else in `home` as others are."""
    given, credential = os.environ.get("CREDENTIALS_DIRECTORY"), name.removeprefix("credential:")
    if given and credential != name and Path(given, credential).exists():
        return str(Path(given, credential))
    return str(home / credential)


def _shared(listeners: tuple[Listener, ...]) -> Iterator[tuple[str, str]]:
    """Find the names and addresses that two listeners have, with where; UDP may have the number of a TCP or TLS listener."""
    names = Counter(listener.name.lower() for listener in listeners)
    places = Counter(_place(listener) for listener in listeners if listener.port)
    yield from (
        (f"[{n}].name", "another listener has this name too: each needs its own")
        for n, listener in enumerate(listeners)
        if names[listener.name.lower()] > 1
    )
    yield from (
        (f"[{n}].address", "another listener has this address too: each needs its own")
        for n, listener in enumerate(listeners)
        if places[_place(listener)] > 1
    )


def _place(listener: Listener) -> tuple[bool, str]:
    return listener.transport == "udp", listener.address if listener.port < 0 else listener.address.lower()


def _contradictions(listener: Listener) -> Iterator[tuple[str, str]]:
    """Find what the types cannot know: keys that do not go together, and networks that are none."""
    for n, network in enumerate(listener.allow):
        try:
            ip_network(network)
        except ValueError as error:
            inside = "host bits" in str(error)
            hint = f"did you mean `{ip_network(network, strict=False)}`?" if inside else 'as "192.0.2.0/24" or "2001:db8::/32"'
            yield f"allow[{n}]", f"must be a network: {hint}"
    if (listener.transport in {"serial", "spool"}) != listener.address.startswith("/"):
        yield "address", 'must be a path, as "/dev/ttyS0", with transport = "serial" or "spool", and host:port with the others'
    if (listener.transport == "spool") != isinstance(listener.protocol, Asterisk):
        yield "transport", 'must be "spool" with protocol = "asterisk", and with no other'
    if listener.transport != "serial":
        yield from ((key, 'goes with transport = "serial" alone') for key in _SERIAL_KEYS if getattr(listener, key))
    if listener.allow and listener.transport in {"dial", "serial", "spool"}:
        yield "allow", "goes with transports that let peers in"
    if listener.transport == "tls":
        yield from ((key, "is missing: TLS needs it") for key in ("certificate", "private_key") if not getattr(listener, key))
    else:
        yield from ((key, 'goes with transport = "tls" alone') for key in _TLS_KEYS if getattr(listener, key))
