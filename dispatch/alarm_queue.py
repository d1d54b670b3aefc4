"""
The alarm queue in Redis, from Python: the verbs of `dispatch/lua`, typed. Their contract, and the key map, stand there.

    follower: cursor() -> put() ...      console: claim() -> renew() ... -> close() | release()
    register: acts() -> replay() ...

A verb that the queue refuses raises `AlarmRefused`; a fault of the connection or the server stays redis-py's `RedisError`.
After such a fault the follower calls `cursor` again and goes on from there: the server may have lost its last second.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, ResponseError

from dispatch.alarm import Action, Alarm, Priority
from dispatch.embedded import socket_path
from dispatch.server import QueueRefused, Server
from protocols.event import Category

LUA: Final = tuple(Path(__file__).parent / "lua" / name for name in ("library.lua", "put.lua", "verbs.lua", "replay.lua"))
"""The library `arcgate_v1`, in the order in which it is put together."""
EMBEDDED: Final = "embedded"
REFUSALS: Final = frozenset({"BADARG", "NOALARM", "FENCED", "CHANGED", "NOTYET", "BEHIND"})
ACTS_READ_MAX: Final = 1000
CONNECT_S_MAX: Final = 2
ANSWER_S_MAX: Final = 5
BLOCK_MS_MAX: Final = 4000
"""Below `ANSWER_S_MAX`: a quiet stream is no fault."""


class PutEvent(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An event with all that the queue needs to place it: a `Placement`, flat. `lua/put.lua` reads the fields in this order."""

    id: str
    at: int
    """When the centre received it, ms since 1970."""
    action: Action
    """RAISE or JOIN: what is only logged is not put."""
    priority: Priority
    life: bool
    """A life-safety event opens its own alarm rather than join one in hand as lesser; with JOIN too."""
    account: str
    category: Category
    label: str
    instruction: str
    steps: str
    """A JSON array of texts."""
    body: str
    """The event as JSON: what `events` gives back."""
    repeat_of: str | None = None
    """The id of the event that this one repeats."""
    needs: str | None = None
    """The id of an earlier event: for as long as an alarm with this one is open, a refill begins there."""


class SiteChange(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a batch of entries makes of one site. `lua/put.lua` reads the fields in this order."""

    site: str
    name: str
    """For people."""
    version: int
    """The version that was decided on; 0 for a site never seen. -1 never fits: it asks what the site holds."""
    state: str
    """The site's new state; opaque to the queue."""
    position: int
    """The site's last entry in the batch."""
    ghost: bool = False
    """An account that no site names."""
    events: tuple[PutEvent, ...] = ()


class SiteNow(msgspec.Struct, frozen=True):
    """What a site holds, told where a change was decided on something else."""

    site: str
    version: int
    state: str
    """Empty for a site never seen."""
    at: int
    """The last position of this journal applied to it: entries up to here are done."""


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """What became of one event."""

    event: str
    """Its id."""
    alarm: str
    """The alarm's id; empty where `what` is `logged`."""
    what: str
    """`opened`, `joined`, `raised`, `repeated` or `logged`."""
    priority: Priority
    """The alarm's, now."""


class PutResult(msgspec.Struct, frozen=True):
    """What `put` did. An event that the queue had already is not in `placed`."""

    moved: tuple[SiteNow, ...]
    """The changes that were left out; where there is any, the cursor has not moved."""
    placed: tuple[Placed, ...]


class ReplayedAct(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An act as `p:acts` had it, to be done again. `lua/replay.lua` reads the fields in this order."""

    id: str
    """That of the act in `p:acts`."""
    act: str
    """`claim`, `release`, `lease_expired` or `close`; any other is left out."""
    alarm: str
    operator: str
    fence: int
    outcome: str = ""
    note: str = ""
    events: int | None = None
    """How many events the alarm had: a close leaves an alarm open that has more. None: not known, and not asked."""
    others: dict[str, int] = {}
    """How far other journals were applied to its site then: where one is awaited and not as far, it will do this act itself."""


class AlarmRefused(Exception):  # noqa: N818 - the queue refused: an answer, not a fault
    """The queue refused a verb. `code` is one of `REFUSALS`, `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message


def connect(url: str, state_dir: Path) -> Redis:
    """
    Make a client; it connects when it is first used.

    url: "embedded", or redis:// rediss:// unix://. state_dir: where the embedded server lives.
    Nothing is retried here: a claim sent twice would take two alarms, and the follower has to see each fault.
    Raises QueueRefused for one that cannot be read, ValueError for another kind.
    """
    if url == EMBEDDED:
        url = f"unix://{socket_path(state_dir)}"
    elif urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"{url!r}: write embedded, redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH")
    try:
        return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=ANSWER_S_MAX, socket_connect_timeout=CONNECT_S_MAX)
    except ValueError:  # its text may hold a piece of the password
        raise QueueRefused("the url cannot be read: does a password hold / # ? or @? Write them as %2F %23 %3F %40") from None


class AlarmQueue:
    """The queue of one centre. Ids, operators and outcomes are texts; leases are seconds, 0.1 to 600."""

    def __init__(self, redis: Redis, centre: str) -> None:
        self._send: Callable[..., Awaitable[Any]] = redis.execute_command
        self._pipeline = redis.pipeline
        self._p = f"{{arcgate:{centre}}}"
        self._server = Server(self._send)
        self._cursors: dict[str, int] = {}

    async def load(self) -> None:
        """Check the server, and load the library into it. Raises QueueRefused where it would drop keys or is too old."""
        await self._server.check()
        try:
            await self._load_library()
        except NoPermissionError as error:
            raise QueueRefused(
                f"this Redis user may not load functions: allow it FUNCTION LOAD, FCALL and FCALL_RO ({error})"
            ) from error
        except ResponseError as error:
            if "unknown command" not in str(error).lower():
                raise  # a replica, or one short of memory or disk: it may mend
            raise QueueRefused(f"arcgate needs Redis >= 7.0 or Valkey, with functions: {error}") from error

    async def _load_library(self) -> None:
        code = "".join(path.read_text() for path in LUA)
        await self._send("FUNCTION", "LOAD", "REPLACE", code)

    async def _call(self, verb: str, *arguments: str | bytes | int, read_only: bool = False) -> Any:  # noqa: ANN401 - each verb knows its reply
        call = ("FCALL_RO" if read_only else "FCALL", f"arcgate_v1_{verb}", 1, self._p, *arguments)
        try:
            try:
                return await self._send(*call)
            except ResponseError as error:
                if "Function not found" not in str(error):
                    raise
                await self._load_library()  # a server put in another's place, empty
                return await self._send(*call)
        except ResponseError as error:
            code, _, message = str(error).partition(" ")
            if code in REFUSALS:
                raise AlarmRefused(code, message) from error
            raise

    async def cursor(self, journal: str) -> int:
        """
        Read how far the journal is applied: its last position, 0 for a journal never seen.

        With `register:<id>`: how far that register is. From here `put`, or `replay`, goes on.
        """
        position = int(await self._send("HGET", f"{self._p}:cursors", journal) or 0)
        self._cursors[journal] = position
        return position

    async def cursors(self) -> dict[str, int]:
        """Read all that `cursor` gives, of journals and registers; what `put` and `replay` go on from stays as it is."""
        flat: Mapping[bytes, bytes] = await self._send("HGETALL", f"{self._p}:cursors")
        return {_text(name): int(position) for name, position in flat.items()}

    async def heads(self) -> dict[str, tuple[int, str]]:
        """Read, by the names of `cursors`, the last position that came with a digest, and that digest: it must be there still."""
        flat: Mapping[bytes, bytes] = await self._send("HGETALL", f"{self._p}:heads")
        heads = {_text(journal): _text(head).split(" ") for journal, head in flat.items()}
        return {journal: (int(position), digest) for journal, (position, digest) in heads.items()}

    async def forget(self, journal: str) -> None:
        """Remove a journal's cursor and head: it is gone for good, and nothing of it will be put any more, or waited for."""
        for command, key in (("HDEL", "heads"), ("HDEL", "cursors"), ("ZREM", "awaited")):
            await self._send(command, f"{self._p}:{key}", journal)

    async def put(self, journal: str, position: int, changes: Sequence[SiteChange], digest: str = "") -> PutResult:
        """
        Commit a batch of the journal's entries that ends at `position`: states, queue and cursor, together.

        digest: the hexadecimal one of the entry at `position`, for `heads`; empty: none is noted.
        Changes whose version does not fit are left out and told in `moved`: decide those again and put the batch again.
        Raises AlarmRefused("BEHIND") where the server has a lower cursor than this object knows: it has lost what it
        acknowledged, so call `cursor` and go on from there.
        """
        after = self._cursors.get(journal, 0)
        reply = await self._call("put", journal, position, msgspec.msgpack.encode(changes), after, digest)
        result = msgspec.msgpack.decode(reply, type=PutResult)
        if not result.moved:
            self._cursors[journal] = max(after, position)
        return result

    async def note_ghosts(self, opened_at: Mapping[str, int]) -> None:
        """Have alarms of ghosts counted that are not put again; their ids, and when they were opened, ms since 1970."""
        if opened_at:
            await self._send("ZADD", f"{self._p}:ghosts", *chain.from_iterable((at, alarm) for alarm, at in opened_at.items()))

    async def replay(self, register: str, position: int, acts: Sequence[ReplayedAct], digest: str = "") -> int:
        """
        Do again what the register holds up to `position`; returns how many acts changed anything. Twice is as once.

        Without acts it says that the register has copied what was done here so far. digest: as for `put`. Raises
        AlarmRefused("BEHIND") as `put` does: call `cursor("register:<id>")`, and go on from there.
        """
        name = f"register:{register}"
        after = self._cursors.get(name, 0)
        done = await self._call("replay", register, position, after, msgspec.msgpack.encode(acts), digest)
        self._cursors[name] = max(after, position)
        return int(done)

    async def refill(self, journal: str, last: str, closing: Sequence[str], journals: Sequence[str]) -> None:
        """Say that a journal puts back what was lost, and will close these. last: the register's last act. journals: others."""
        await self._call("refill", journal, last, msgspec.msgpack.encode(closing), msgspec.msgpack.encode(journals))

    async def say_ready(self, journal: str) -> None:
        """Say that this server has all of it; raises AlarmRefused("BEHIND") where it is not the server of `refill` any more."""
        await self._call("ready", journal)

    async def oldest(self, journal: str) -> int | None:
        """Read the first position among the journal's entries that opened an alarm which is open still; None where none is."""
        position = await self._call("oldest", journal, read_only=True)
        return None if position is None else int(position)

    async def claim(self, operator: str, lease_s: float) -> Alarm | None:
        """Take the most urgent, then oldest, waiting alarm; None where nothing waits. Raises AlarmRefused: BADARG."""
        flat = await self._call("claim", operator, _ms(lease_s))
        return None if flat is None else Alarm.read(_pairs(flat))

    async def renew(self, alarm_id: str, fence: int, lease_s: float) -> int:
        """Keep a claimed alarm; returns the lease's new end, ms since 1970. Raises AlarmRefused: BADARG, NOALARM, FENCED."""
        return int(await self._call("renew", alarm_id, fence, _ms(lease_s)))

    async def release(self, alarm_id: str, fence: int) -> None:
        """Put a claimed alarm back at its rank. Raises AlarmRefused: BADARG, NOALARM, FENCED."""
        await self._call("release", alarm_id, fence)

    async def close(self, alarm_id: str, fence: int, seen: int, outcome: str, note: str) -> None:
        """
        Close a claimed alarm of whose events the operator has seen `seen`; an empty note is none.

        Raises AlarmRefused: BADARG, NOALARM, FENCED, CHANGED where more events have joined, NOTYET during a refill.
        """
        await self._call("close", alarm_id, fence, seen, outcome, note)

    async def expire(self) -> int:
        """Return alarms whose lease ran out to the queue; says how many, at most 1,000 a call."""
        return int(await self._call("expire"))

    async def open_alarms(self, limit: int) -> list[Alarm]:
        """List the first alarms, waiting and claimed, most urgent first, then oldest. limit: 1 to 10,000."""
        return [Alarm.read(_pairs(flat)) for flat in await self._call("list", limit, read_only=True)]

    async def alarm(self, alarm_id: str) -> Alarm | None:
        """Read one alarm, open or closed within the last day; else None."""
        fields: Mapping[bytes, bytes] = await self._send("HGETALL", f"{self._p}:alarm:{alarm_id}")
        return Alarm.read(fields) if fields else None

    async def sites_of(self, alarm_ids: Sequence[str]) -> dict[str, str]:
        """Read of which sites these alarms are; one that is not here has none."""
        async with self._pipeline(transaction=False) as pipeline:
            for alarm_id in alarm_ids:
                pipeline.hget(f"{self._p}:alarm:{alarm_id}", "site")
            sites = await pipeline.execute()
        return {alarm_id: _text(site) for alarm_id, site in zip(alarm_ids, sites, strict=True) if site is not None}

    async def events(self, alarm_id: str, start: int, stop: int) -> list[dict[str, Any]]:
        """Read an alarm's events, in the order of joining: `start` to `stop`, both included; 0 is the first, -1 the last."""
        return [msgspec.json.decode(body) for body in await self._send("LRANGE", f"{self._p}:events:{alarm_id}", start, stop)]

    async def counts(self) -> dict[Priority, int]:
        """Count the alarms that are open, waiting or claimed, by priority; only the priorities that have any."""
        flat = await self._call("counts", read_only=True)
        return {Priority(priority): count for priority, count in zip(flat[::2], flat[1::2], strict=True)}

    async def last_act(self) -> str:
        """Give the id of the newest act, "0-0" where none is kept: `acts` after it gives what is done from now on."""
        newest = await self._send("XREVRANGE", f"{self._p}:acts", "+", "-", "COUNT", 1)
        return _text(newest[0][0]) if newest else "0-0"

    async def acts(self, after: str, block_ms: int) -> list[tuple[str, dict[str, str]]]:
        """
        Read what was done after an act's id ("0": all that is kept), oldest first, at most 1,000: (id, fields).

        Waits up to block_ms (at most 4,000; 0 does not wait) for the first. The fields are those of `p:acts`; a note is in it.
        """
        block = ("BLOCK", min(block_ms, BLOCK_MS_MAX)) if block_ms > 0 else ()
        reply = await self._send("XREAD", "COUNT", ACTS_READ_MAX, *block, "STREAMS", f"{self._p}:acts", after)
        streams = reply.values() if isinstance(reply, dict) else (entries for _, entries in reply or ())
        return [
            (_text(act), {_text(name): _text(value) for name, value in fields.items()})
            for acts in streams
            for act, fields in acts
        ]

    async def act_ids(self, first: str, last: str) -> set[str]:
        """Give the ids of the acts that `p:acts` still has, from `first` to `last`, both included; "-" and "+" are its ends."""
        ids = set[str]()
        while acts := await self._send("XRANGE", f"{self._p}:acts", first, last, "COUNT", ACTS_READ_MAX):
            ids.update(_text(act) for act, _ in acts)
            first = f"({_text(acts[-1][0])}"
        return ids


async def end(*tasks: asyncio.Task[Any], again_s: float = 0.1) -> None:
    """
    Cancel tasks that speak with Redis, every `again_s` until they are over.

    Once is not enough: redis-py sends under `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes
    in the moment when the sending ends.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=again_s)
    _ = [task.cancelled() or task.exception() for task in tasks]  # looked at: asyncio would log what nobody asks for


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _text(data: bytes) -> str:
    """Text that a console may have sent in any encoding."""
    return data.decode(errors="replace")


def _pairs(flat: Sequence[bytes]) -> Mapping[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
