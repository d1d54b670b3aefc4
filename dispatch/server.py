"""
What a Redis must be to hold the queue, looked at each time that one is come to: another may stand in its place by then.

    CONFIG GET -> Server.check() -> QueueRefused, or what is to be set there
"""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.exceptions import ResponseError

log = structlog.get_logger()


class QueueRefused(Exception):  # noqa: N818 - it says what happened, as AlarmRefused does
    """This server must not hold the queue; the message says what to do."""


class Server:
    """The server behind a connection, as it is set. send: the client's `execute_command`."""

    def __init__(self, send: Callable[..., Awaitable[Any]]) -> None:
        """Nothing is asked yet."""
        self._send = send
        self._settings: dict[str, str] | None = None
        """As they were found last; empty where nobody may ask."""

    async def check(self) -> None:
        """
        Warn of a server that keeps nothing on disk: each restart of it would be a refill.

        It is said again only where it is set otherwise than before. Raises QueueRefused where it would drop keys.
        """
        try:
            settings = await self._send("CONFIG GET", "maxmemory-policy", "appendonly", "save")
        except ResponseError:
            settings = {}
        news, self._settings = settings != self._settings, settings
        if not settings and news:
            log.warning("redis_policy_unknown", message="CONFIG GET is forbidden: see that maxmemory-policy is noeviction")
        policy = settings.get("maxmemory-policy", "noeviction")
        if policy != "noeviction":
            raise QueueRefused(
                f"Redis has maxmemory-policy {policy}: short of memory, it would drop alarms. Set maxmemory-policy noeviction"
            )
        if news and settings.get("appendonly") == "no":
            log.warning(
                "redis_not_durable",
                message="appendonly is off: what operators do may be lost with Redis, and their alarms be seen again. "
                "Set appendonly yes and appendfsync always",
                save=settings.get("save"),
            )
