"""
The gateway's own file, arcgate.toml: where things are, and what listens where.

    find() -> path -> load() -> Config, or ConfigError with every mistake
"""

import os
import tomllib
from collections import Counter
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from protocols import AnyProtocol
from receiver.load import ConfigError, Mistake, toml

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
        pattern=r"\A(\[[0-9A-Fa-f:.]+(%\w+)?\]|[A-Za-z0-9._-]+):([1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]|\d{1,4})\Z",
        description='host:port, as "127.0.0.1:12000" or "[::1]:12000"',
    ),
]


class Redis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the queue is."""

    url: Url = "embedded"
    """May hold a password: not for logs."""
    centre: Name = "main"
    """All keys of the centre share the hash tag {arcgate:<centre>}."""


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """One open door for panels or receivers."""

    name: Name
    transport: Annotated[Literal["tcp"], Meta(description='"tcp"')]
    address: Address
    """As written; `host` and `port` are its parts."""
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
        """0 to 65535; 0 lets the system choose."""
        return int(self.address.rpartition(":")[2])


class Config(msgspec.Struct, frozen=True):
    """arcgate.toml, read: every path is absolute or starts where the gateway was started."""

    state_dir: Path
    accounts: Path
    sites: Path
    redis: Redis
    listeners: tuple[Listener, ...]


def _flat(protocol: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """One table of a listener and its protocol's keys, so that both are written side by side and checked together."""
    own = [field for field in msgspec.structs.fields(Listener) if field.name != "protocol"]
    fields = [(field.name, field.type, field.default) for field in (*own, *msgspec.structs.fields(protocol))]
    tag = protocol.__struct_config__.tag
    return msgspec.defstruct(protocol.__name__, fields, tag_field="protocol", tag=tag, forbid_unknown_fields=True, kw_only=True)


_PROTOCOLS: Final[dict[Any, type[AnyProtocol]]] = {_flat(member): member for member in get_args(AnyProtocol) or (AnyProtocol,)}
_Listener: Any = reduce(or_, _PROTOCOLS)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    listeners = tuple(_listener(flat) for flat in content.listener)
    for key in ("name", "address"):
        counts = Counter(getattr(listener, key).lower() for listener in listeners)
        mistakes += [
            Mistake(str(path), f"listener[{n}].{key}", f"another listener has this {key} too: each needs its own")
            for n, listener in enumerate(listeners)
            if counts[getattr(listener, key).lower()] > 1 and not (key == "address" and listener.port == 0)
        ]
    if mistakes:
        raise ConfigError(mistakes)
    home = path.parent
    return Config(home / content.state_dir, home / content.accounts, home / content.sites, content.redis, listeners)


def folders(path: Path) -> tuple[Path, Path]:
    """Say where the accounts and the sites are, as far as a file that may hold mistakes says it: so that all are told at once."""
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        raw = {}
    accounts, sites = (str(raw.get(key, key)).replace("\0", "") for key in ("accounts", "sites"))
    return path.parent / accounts, path.parent / sites


def _listener(flat: msgspec.Struct) -> Listener:
    """Part a flat table into the listener and its protocol."""
    values = msgspec.structs.asdict(flat)
    protocol = _PROTOCOLS[type(flat)]
    own = {field: values.pop(field) for field in Listener.__struct_fields__ if field != "protocol"}
    return Listener(**own, protocol=protocol(**values))
