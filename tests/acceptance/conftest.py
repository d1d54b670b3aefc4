"""A gateway with sites of its own, as a process; and the check that nothing was lost and nothing doubled."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.alarm_queue import connect
from receiver import status
from receiver.journal import Entry, JournalReader
from tests.acceptance.panels import Panels
from tests.conftest import CONFIG, Gateway
from tests.valkey import events_in_alarms

SITES = 60


class Centre(Gateway):
    """A gateway with a site for each panel's account. It is not started."""

    def __init__(self, home: Path, redis_url: str = "embedded", sites: int = SITES) -> None:
        super().__init__(home)
        self.redis_url = redis_url
        self.config.write_text(f'{CONFIG}\n[redis]\nurl = "{redis_url}"\n')
        (home / "sites").mkdir(exist_ok=True)
        rows = [{"id": f"site {n}", "accounts": [str(1000 + n)]} for n in range(sites)]
        (home / "sites" / "bulk.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def valkeys(self) -> list[int]:
        """The processes of Valkey servers that live in this folder; not what a server forks, to rewrite its log."""
        parents = {}
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
                if b"valkey-server" in command.split(b"\0")[0] and str(self.home).encode() in command:
                    parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        return [pid for pid, parent in parents.items() if parent not in parents]

    def logged(self, event: str) -> list[dict[str, object]]:
        """The log's lines of one kind."""
        return [json.loads(text) for text in self.log.read_text().splitlines() if f'"event":"{event}"' in text]

    async def says(self, event: str, times: int = 1, s_max: float = 10) -> list[dict[str, object]]:
        """Wait until the log has that many lines of one kind, and give them: a line is written some time after what it tells."""
        async with asyncio.timeout(s_max):
            while len(lines := self.logged(event)) < times:  # noqa: ASYNC110 - a file tells nothing
                await asyncio.sleep(0.02)
        return lines

    async def settled(self) -> None:
        """Wait until dispatch has the whole journal."""
        head = self.entries()[-1].position
        async with asyncio.timeout(30):
            while True:
                told = await status.ask(self.state_dir / "dispatch.sock")
                if told and told["cursor"] == head:
                    return
                await asyncio.sleep(0.02)

    def entries(self) -> list[Entry]:
        """The whole journal."""
        reader = JournalReader(self.state_dir)
        entries = reader.read(0, 10_000_000)
        reader.close()
        return entries

    async def check(self, panels: Panels) -> None:
        """
        All that was acknowledged is in the journal, the journal is what was written, and each report is in one alarm once.

        A report that a panel sent again after a cut may be journalled twice; then the later one is counted as a repeat.
        """
        entries = self.entries()
        first: dict[str, int] = {}
        for entry in entries:
            first.setdefault(entry.report.frame, entry.position)
        assert {frame.decode() for _, frame in panels.acked} <= first.keys()
        reader = JournalReader(self.state_dir)
        assert list(reader.verify())[-1] == len(entries)
        expected = Counter(f"{reader.id}-{position:012d}-0" for position in first.values())
        reader.close()
        async with connect(self.redis_url, self.state_dir) as redis:
            held = await events_in_alarms(redis, "main")
            assert Counter({event: count for event, count in held.items() if "-disk_full-" not in event}) == expected
            repeats = [int(await redis.hget(key, "repeats") or 0) async for key in redis.scan_iter("{arcgate:main}:alarm:*")]
        assert sum(repeats) == len(entries) - len(first)

    async def gone(self, pids: list[int]) -> None:
        """Wait until these processes are over."""
        async with asyncio.timeout(5):
            while set(pids) & set(self.valkeys()):  # noqa: ASYNC110 - another process's death sends no event
                await asyncio.sleep(0.01)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path)
    yield made
    assert made.stop() == 0
    assert "Traceback" not in made.log.read_text()
