"""
What `arcgate journal` and `arcgate register` share: telling a ledger's rows, proving that they are what was written, copying it.

    tell()      rows behind a position
    verify()    the chain of digests, and what Redis and a note have kept of it
    backup()    a copy, while it is written, and the proof that it is one
"""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from arcgate.ask import QueueAway, open_queue
from arcgate.output import fail, print_json
from receiver.config import Config
from receiver.ledger import LedgerError, LedgerReader

After = Annotated[int | None, typer.Option("--after", min=0, help="Begin behind this position; else: the last ones.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")]
Heads = Annotated[
    list[str] | None,
    typer.Option("--head", metavar="POSITION:DIGEST", help="What was noted elsewhere, as in a log line; several may be given."),
]

POLL_S: Final = 0.1
REDIS_S_MAX: Final = 2.0
"""So long is waited for what Redis knows."""
_BATCH: Final = 1000
_HEAD: Final = re.compile(r"([1-9]\d{0,17}):([0-9a-f]{64})", re.ASCII | re.IGNORECASE)


class Anchor(msgspec.Struct, frozen=True):
    """What somebody else has kept of a ledger."""

    source: str
    """`redis` or `head`."""
    position: int
    digest: str | None
    """Of the entry at `position`; None: no more than that there was one."""

    def __str__(self) -> str:
        """Write it for a person."""
        source = {"redis": "Redis", "head": "--head"}[self.source]
        return f"{source}: {'the digest of ' if self.digest else ''}entry {self.position}"


def tell(
    head: int, read: Callable[[int, int], list[tuple[int, str]]], after: int | None, limit: int, *, follow: bool = False
) -> None:
    """
    Write the rows behind position `after`, else the last ones; with `follow` for ever: the limit then says only where they begin.

    head: the last position. read(after, limit): rows, each its position and what is to be written.
    """
    reached = after if after is not None else max(0, head - limit) if limit else 0
    given = 0
    while True:
        size = _BATCH if follow or not limit else min(_BATCH, limit - given)
        if size and (rows := read(reached, size)):
            sys.stdout.write("".join([text for _, text in rows]))
            sys.stdout.flush()  # whoever follows reads it now
            reached, given = rows[-1][0], given + len(rows)
        elif not follow:
            break
        else:
            time.sleep(POLL_S)
    if reached < head:
        print(f"up to {reached} of {head}: `--after {reached}` goes on, `--limit 0` shows all", file=sys.stderr)


def verify(  # noqa: PLR0913 - what is verified, and with what
    what: str, reads: Callable[[], LedgerReader], loaded: Config, heads: Sequence[str], *, name: str = "", json: bool
) -> None:
    """
    Check a ledger from the first entry to the last; tell what was found, and exit with 1 where something was altered.

    what: `journal` or `register`. reads: opens it. heads: as written at `--head`. name: what stands before its id in Redis.
    """
    noted = [_noted(text) for text in heads]
    known, away = _ask_redis(loaded)
    told: dict[str, Any] = {what: None, "first": None, "entries": 0, "digest": None, "ok": False, "error": None, "entry": None}
    told |= {"compared": [], "not_compared": []}
    try:
        with closing(reads()) as reader:
            told |= {what: reader.id, "first": reader.first()}
            anchors = [*known.get(f"{name}{reader.id}", ()), *noted]
            told["compared"] = [anchor for anchor in anchors if anchor.position >= reader.first()]
            told["not_compared"] = [f"{one}: retention has deleted it" for one in anchors if one not in told["compared"]]
            if not any(anchor.source == "redis" for anchor in anchors):
                told["not_compared"].append(f"Redis: {away or f'it knows nothing of this {what}'}")
            for reached in _shown(reader, _kept(told["compared"], reader.head())):
                told["entries"] = reached
            told["digest"] = (reader.digest(told["entries"]) or b"").hex() or None
    except LedgerError as error:
        told["entry"] = error.position
        unkeyed = error.position in {1, told["first"]} and "altered" in str(error)
        told["error"] = f"{error}; or `digest_key` is not what it was written with" if unkeyed else str(error)
        if json:
            print_json(told)
        fail(told["error"])
    if json:
        print_json(told | {"ok": True})
        return
    deleted = f" (1 to {told['first'] - 1} deleted by retention)" if told["first"] > 1 else ""
    print(f"{told[what]}: {told['entries']} entries{deleted}, head digest {told['digest'] or 'none'}: unaltered")
    for word in ("compared", "not_compared"):
        for line in told[word]:
            print(f"{word.replace('_', ' ')} with {line}")


def backup(what: str, reads: Callable[[Path], LedgerReader], state_dir: Path, folder: Path, *, json: bool) -> None:
    """
    Copy a ledger of a state folder into `folder`, as it is now, and verify the copy; what is there already is not copied again.

    reads: opens the one of a state folder. Raises LedgerError where the folder holds something else, or the copy is none.
    """
    place = folder / what
    with closing(reads(state_dir)) as reader:
        if any(place.glob("*.db")):
            _check_older(reader, reads, folder, place)
        head = reader.head()
        digest = reader.digest(head)
        copied = reader.backup(place)
        with closing(reads(folder)) as copy:
            for _ in _shown(copy, {head: digest} if digest else {}):
                pass
            reached = copy.head()
            told = {what: copy.id, "folder": place, "copied": [path.name for path in copied], "entries": reached}
            told["digest"] = (copy.digest(reached) or b"").hex() or None
    if json:
        print_json(told)
    else:
        files = f"{len(copied)} {'file' if len(copied) == 1 else 'files'} copied"
        print(f"{place}: {files} of {what} {told[what]}, {reached} entries, head digest {told['digest'] or 'none'}: unaltered")


def _check_older(reader: LedgerReader, reads: Callable[[Path], LedgerReader], folder: Path, place: Path) -> None:
    """Keep a good copy from being written over by another ledger, or by one that has lost entries."""
    with closing(reads(folder)) as there:
        head = there.head()
        if there.id == reader.id and (head < reader.first() or reader.digest(head) == there.digest(head)):
            return
    raise LedgerError(
        f"{place}: it holds entries up to {head} of {there.id} that are not in {reader.folder}: name another folder"
    )


def _kept(anchors: Sequence[Anchor], head: int) -> dict[int, bytes]:
    """Make what `LedgerReader.verify` takes. Without a digest there is only something to say where the entry is not there."""
    kept: dict[int, bytes] = {}
    for anchor in anchors:
        if anchor.digest is None and anchor.position <= head:
            continue
        digest = bytes.fromhex(anchor.digest or "")
        if digest and kept.setdefault(anchor.position, digest) != digest:
            message = f"entry {anchor.position}: Redis and --head have different digests of it: somebody altered one of them"
            raise LedgerError(message, anchor.position)
        kept.setdefault(anchor.position, digest)
    return kept


def _noted(text: str) -> Anchor:
    parts = _HEAD.fullmatch(text)
    if not parts:
        raise typer.BadParameter("write POSITION:DIGEST, a number and 64 hexadecimal digits", param_hint="--head")
    return Anchor("head", int(parts[1]), parts[2].lower())


def _ask_redis(loaded: Config) -> tuple[Mapping[str, list[Anchor]], str]:
    """Return what Redis knows, by the ledger's name there; and why it cannot be asked, where it cannot."""

    async def converse() -> dict[str, list[Anchor]]:
        async with asyncio.timeout(REDIS_S_MAX), open_queue(loaded) as queue:
            known = {name: [Anchor("redis", cursor, None)] for name, cursor in (await queue.cursors()).items() if cursor}
            for name, (position, digest) in (await queue.heads()).items():
                if known.get(name, []) == [Anchor("redis", position, None)]:
                    known[name] = []
                known.setdefault(name, []).append(Anchor("redis", position, bytes.fromhex(digest).hex()))
            return known

    try:
        return asyncio.run(converse()), ""
    except TimeoutError:
        return {}, f"no answer within {REDIS_S_MAX:g} s"
    except (QueueAway, ValueError) as error:
        return {}, str(error)


def _shown(reader: LedgerReader, anchors: Mapping[int, bytes]) -> Iterator[int]:
    """Give the positions that `verify` reaches, with a bar where a person waits at a terminal."""
    verifying = reader.verify(anchors.items())
    if not sys.stderr.isatty():
        yield from verifying
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    columns = ("checking", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=reader.head())
        for reached in verifying:
            progress.update(task, completed=reached)
            yield reached
