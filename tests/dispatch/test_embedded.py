"""The embedded Valkey: private, durable, alone on its folder, and gone with its parent."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from dispatch import embedded
from dispatch.alarm_queue import AlarmQueue, connect
from dispatch.embedded import EmbeddedRefused, EmbeddedValkey, socket_path

PARENT = """
import asyncio, sys, uvloop
from pathlib import Path
from dispatch.embedded import EmbeddedValkey

async def main():
    server = EmbeddedValkey(Path(sys.argv[1]), print)
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(60)

(uvloop if sys.argv[2] == 'uvloop' else asyncio).run(main())
"""


@contextlib.asynccontextmanager
async def running(state_dir: Path, exits: list[int] | None = None) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(state_dir, lambda code, _: None if exits is None else exits.append(code))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def remember(state_dir: Path, position: int) -> None:
    async with connect("embedded", state_dir) as redis:
        queue = AlarmQueue(redis, "main")
        await queue.load()
        await queue.put("j1", position, [])


async def remembered(state_dir: Path) -> int:
    async with connect("embedded", state_dir) as redis:
        return await AlarmQueue(redis, "main").cursor("j1")


def alive(pid: int) -> bool:
    """Whether the process runs; one that has died and was not reaped yet does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while alive(pid):  # noqa: ASYNC110 - another process's death sends no event
            await asyncio.sleep(0.01)


async def restarted(server: EmbeddedValkey, exits: list[int]) -> None:
    async with asyncio.timeout(5):
        while not exits or not server.pid:  # noqa: ASYNC110 - another process's start sends no event
            await asyncio.sleep(0.01)
        assert server._child
        await server._wait_for_answer(server._child)


def test_it_starts_restarts_and_stops_on_both_loops(tmp_path: Path) -> None:
    async def through_its_life(state_dir: Path) -> None:
        exits: list[int] = []
        async with running(state_dir, exits) as server:
            await remember(state_dir, 7)
            first = server.pid
            assert first
            os.kill(first, signal.SIGKILL)
            await restarted(server, exits)
            assert exits == [-signal.SIGKILL]
            second = server.pid
            assert second
            assert second != first
        assert not alive(second)
        assert server.pid is None

    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(through_its_life(tmp_path / factory.__module__))


async def test_it_is_private_writes_before_it_answers_and_drops_nothing(tmp_path: Path) -> None:
    async with running(tmp_path), connect("embedded", tmp_path) as redis:
        settings = await redis.config_get("*")
    expected = {"port": "0", "appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}
    assert {name: settings[name] for name in expected} == expected
    assert (tmp_path / "valkey").stat().st_mode & 0o777 == 0o700


async def test_what_it_answered_is_there_after_a_kill_and_after_a_stop(tmp_path: Path) -> None:
    exits: list[int] = []
    async with running(tmp_path, exits) as server:
        await remember(tmp_path, 41)
        assert server.pid
        os.kill(server.pid, signal.SIGKILL)
        await restarted(server, exits)
        assert await remembered(tmp_path) == 41
        await remember(tmp_path, 42)
    async with running(tmp_path):
        assert await remembered(tmp_path) == 42


async def test_one_that_hangs_is_killed_and_started_again_and_one_that_answers_late_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOOK_S", 0.3)
    exits: list[int] = []
    async with running(tmp_path, exits) as server:
        await remember(tmp_path, 41)
        first = server.pid
        assert first
        os.kill(first, signal.SIGSTOP)
        await asyncio.sleep(0.7)
        os.kill(first, signal.SIGCONT)
        await asyncio.sleep(0.7)
        assert (exits, server.pid) == ([], first)
        with capture_logs() as said:
            os.kill(first, signal.SIGSTOP)
            await restarted(server, exits)
        assert exits == [-signal.SIGKILL]
        assert [(line["event"], line["pid"]) for line in said] == [("valkey_hung", first)]
        assert not alive(first)
        assert await remembered(tmp_path) == 41


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_kill_9_of_the_parent_leaves_no_server_and_the_next_start_works(tmp_path: Path, loop: str) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), loop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: ASYNC220 - it starts at once
        assert parent.stdout
        pid = int(parent.stdout.readline())
        await remember(tmp_path, 5)
        assert alive(pid)
        parent.kill()
    await gone(pid)
    async with running(tmp_path):
        assert await remembered(tmp_path) == 5


async def test_a_second_one_on_the_folder_is_refused_and_told_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LOCK_WAIT_S_MAX", 0.2)
    async with running(tmp_path) as first:
        with pytest.raises(EmbeddedRefused, match=rf"{tmp_path}/valkey is in use by process {os.getpid()} "):
            await EmbeddedValkey(tmp_path, print).start()
        assert first.pid
        assert alive(first.pid)


async def test_the_server_holds_the_folder_even_where_its_parent_has_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOCK_WAIT_S_MAX", 0.2)
    async with running(tmp_path) as first:
        assert first._lock is not None
        os.close(first._lock)
        first._lock = None
        with pytest.raises(EmbeddedRefused, match="in use"):
            await EmbeddedValkey(tmp_path, print).start()


async def test_a_successor_waits_for_a_predecessor_that_is_going(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as first:
        await first.enter_async_context(running(tmp_path))
        successor = EmbeddedValkey(tmp_path, print)
        start = asyncio.create_task(successor.start())
        await asyncio.sleep(0)
        assert not start.done()
    await start
    await successor.stop()


async def test_a_state_dir_too_deep_for_a_socket_keeps_its_data_and_moves_the_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    path = socket_path(deep)
    assert not path.is_relative_to(tmp_path)
    assert len(os.fsencode(path)) <= embedded.SOCKET_PATH_BYTES_MAX
    assert path == socket_path(deep / ".." / deep.name) != socket_path(deep / "other")
    async with running(deep):
        await remember(deep, 3)
        assert path.parent.stat().st_mode & 0o777 == 0o700
    async with running(deep):
        assert await remembered(deep) == 3
    path.parent.joinpath(path.name).unlink(missing_ok=True)
    path.parent.rmdir()


async def test_a_server_that_cannot_start_is_refused_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "appendonlydir").touch()
    with pytest.raises(EmbeddedRefused, match=r"exited with code 1: see .*valkey\.log"):
        await EmbeddedValkey(tmp_path, print).start()


def zeros_at_the_end(folder: Path) -> None:
    """As a file system leaves a file whose last pages were not on disk when the power went."""
    (path,) = folder.glob("*.incr.aof")
    with path.open("ab") as data:
        data.write(bytes(5000))


def no_base(folder: Path) -> None:
    (path,) = folder.glob("*.base.rdb")
    path.unlink()


def zeros_in_the_base(folder: Path) -> None:
    (path,) = folder.glob("*.base.rdb")
    path.write_bytes(path.read_bytes()[:40] + bytes(200))


def no_manifest(folder: Path) -> None:
    (path,) = folder.glob("*.manifest")
    path.write_bytes(b"")


@pytest.mark.parametrize("while_it_runs", [False, True], ids=["before its start", "while it runs"])
@pytest.mark.parametrize("damage", [zeros_at_the_end, zeros_in_the_base, no_base, no_manifest])
async def test_data_that_cannot_be_read_back_is_set_aside(
    tmp_path: Path, damage: Callable[[Path], None], *, while_it_runs: bool
) -> None:
    """The queue can be filled again; a server that never starts could not."""
    exits: list[int] = []
    with capture_logs() as said:
        async with running(tmp_path, exits) as server:
            await remember(tmp_path, 3)
            async with connect("embedded", tmp_path) as redis:
                await redis.bgrewriteaof()
                async with asyncio.timeout(5):
                    while (await redis.info())["aof_rewrite_in_progress"]:  # noqa: ASYNC110 - Redis is asked
                        await asyncio.sleep(0.01)
            if while_it_runs:
                damage(tmp_path / "valkey" / "appendonlydir")
                assert server.pid
                os.kill(server.pid, signal.SIGKILL)
                async with asyncio.timeout(10):
                    while len(exits) < 2:  # noqa: ASYNC110 - another process's exit sends no event
                        await asyncio.sleep(0.01)
                await restarted(server, exits)
                assert await remembered(tmp_path) == 0
        if not while_it_runs:
            damage(tmp_path / "valkey" / "appendonlydir")
        for position in (5, 6):
            async with running(tmp_path):
                assert await remembered(tmp_path) == (0 if position == 5 else 5)
                await remember(tmp_path, position)
    (line,) = [line for line in said if line["event"] == "valkey_damaged"]
    assert (line["log_level"], line["kept"]) == ("critical", str(tmp_path / "valkey" / "damaged"))
    assert any((tmp_path / "valkey" / "damaged").iterdir())


async def test_data_that_is_whole_is_kept_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It falls over that too, and says so in the same words."""
    async with running(tmp_path):
        await remember(tmp_path, 3)
        async with connect("embedded", tmp_path) as redis:
            for n in range(60):
                await redis.set(f"large {n}", bytes(2_000_000))
    die_with = embedded._die_with

    def short(parent: int) -> Callable[[], None]:
        def ask() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (150 * 2**20,) * 2)
            die_with(parent)()

        return ask

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_die_with", short)
        with pytest.raises(EmbeddedRefused, match="exited with code"):
            await EmbeddedValkey(tmp_path, print).start()
    async with running(tmp_path):
        assert await remembered(tmp_path) == 3


async def test_damaged_data_that_cannot_be_moved_away_is_told(tmp_path: Path) -> None:
    async with running(tmp_path):
        await remember(tmp_path, 3)
    zeros_at_the_end(tmp_path / "valkey" / "appendonlydir")
    (tmp_path / "valkey" / "damaged").touch()
    with pytest.raises(EmbeddedRefused, match=r"Bad file format.* move .*/valkey/appendonlydir away .*Not a directory"):
        await EmbeddedValkey(tmp_path, print).start()


async def test_a_fault_of_the_system_is_a_refusal_and_leaves_nothing_open(tmp_path: Path) -> None:
    """Whoever tries again must learn that there is something to try again."""
    (tmp_path / "valkey" / "lock").mkdir(parents=True)
    server = EmbeddedValkey(tmp_path, print)
    with pytest.raises(EmbeddedRefused, match=r"cannot be started: .*Is a directory"):
        await server.start()
    (tmp_path / "valkey" / "lock").rmdir()
    await server.start()
    await server.stop()


async def test_stop_may_be_called_at_any_time(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, print)
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()
