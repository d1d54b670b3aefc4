"""How a verb asks the operators' queue: one question, one answer, and plain words where there is none."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from arcgate.output import fail
from arcgate.run import refusing
from receiver import config

if TYPE_CHECKING:
    from dispatch.alarm_queue import AlarmQueue

T = TypeVar("T")

WHAT_NOW: Final = {
    "FENCED": "This fence is not the alarm's present claim: do not act on it. `arcgate alarms show` says how it stands",
    "CHANGED": "Look at what joined with `arcgate alarms show`, then close with --seen of what you have seen",
    "NOALARM": "`arcgate alarms list` shows those that are open",
    "BADARG": "The verb's --help says what it takes",
}
"""What to do about a refusal of the queue."""


class QueueAway(Exception):  # noqa: N818 - it says what happened
    """The queue cannot be asked; the message says why, and what to check. It repeats no secret of the url."""


def ask(config_file: Path | None, question: Callable[["AlarmQueue"], Awaitable[T]], *, json: bool) -> T:
    """Return the queue's answer. A refusal, or a queue that is away, is told, and is exit code 1."""
    import asyncio

    from dispatch.alarm_queue import AlarmRefused

    loaded = load(config_file)

    async def converse() -> T:
        async with open_queue(loaded) as queue:
            return await question(queue)

    try:
        return asyncio.run(converse())
    except AlarmRefused as refused:
        fail(f"{refused}. {WHAT_NOW.get(refused.code, '')}", reason=refused.code, json=json)
    except QueueAway as away:
        fail(str(away), reason="AWAY", json=json)


def load(config_file: Path | None) -> config.Config:
    """Load arcgate.toml; where that fails, every mistake is told, and it is exit code 2."""
    with refusing():
        return config.load(config.find(config_file))


@asynccontextmanager
async def open_queue(loaded: config.Config) -> AsyncIterator["AlarmQueue"]:
    """Give the configured centre's queue. Raises QueueAway, and AlarmRefused as its verbs do."""
    from redis.exceptions import RedisError

    from dispatch.alarm_queue import AlarmQueue, connect
    from dispatch.embedded import EmbeddedRefused
    from dispatch.server import QueueRefused

    try:
        redis = connect(loaded.redis.url, loaded.state_dir)
    except (EmbeddedRefused, QueueRefused) as error:
        raise QueueAway(str(error)) from error
    try:
        yield AlarmQueue(redis, loaded.redis.centre)
    except (RedisError, OSError) as error:
        raise QueueAway(_say_away(loaded, error)) from error
    finally:
        await redis.aclose()


def place(loaded: config.Config) -> str:
    """Name the queue's server, without what may be secret in its url."""
    if loaded.redis.url == "embedded":
        return "the embedded Valkey"
    parts = urlsplit(loaded.redis.url)
    return f"Redis at {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _say_away(loaded: config.Config, error: Exception) -> str:
    why = str(error).rstrip(".") or type(error).__name__
    if loaded.redis.url == "embedded":
        check = f"is `arcgate run` or `arcgate dispatch` running with the state_dir {loaded.state_dir}?"
    else:
        check = "does it run, is the `url` in [redis] right, and may this user in?"
    return f"{place(loaded)} gives no answer: {why}. Check: {check}"
