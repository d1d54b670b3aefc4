"""A ledger against a list, under any order of appends, new files, ends, kills, retention and copies."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from receiver.ledger import Ledger, LedgerReader
from receiver.segment import SegmentReader, create, path_of
from receiver.tombstone import Tombstone
from tests.receiver.ledgers import SMALL, bodies, files, followed, killed, next_day

OPEN = precondition(lambda self: self.ledger)
LATER = timedelta(days=3)


class Machine(RuleBasedStateMachine):
    """The list holds the body of each entry, also of those that retention has deleted; `digests` what somebody else noted."""

    home = Path()

    @initialize(key=st.sampled_from([b"", b"key"]))
    def begin(self, key: bytes) -> None:
        self.key = key
        self.folder = Path(tempfile.mkdtemp(dir=self.home)) / "ledger"
        self.model: list[bytes] = []
        self.digests: dict[int, bytes] = {}
        self.dropped = 0
        self.ledger: Ledger | None = Ledger(self.folder, SMALL, key)
        self.reader = LedgerReader(self.folder, key)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.close()
            self.reader.close()
            self.check(self.folder)
            shutil.rmtree(self.folder.parent)

    def check(self, folder: Path) -> None:
        """All of it is there for a new reader, from the first that was left to the last, and it verifies."""
        with closing(LedgerReader(folder, self.key)) as reader:
            assert list(reader.verify(self.digests.items()))[-1] == len(self.model)
            rows = list(followed(reader, self.dropped, 1000))
        assert [position for position, _, _ in rows] == list(range(self.dropped + 1, len(self.model) + 1))
        assert [body for _, _, body in rows] == self.model[self.dropped :]
        assert all(digest == self.digests.get(position, digest) for position, digest, _ in rows)

    # ---- what a writer does

    @OPEN
    @rule(sizes=st.lists(st.sampled_from([1, 30, 30_000, 70_000]), min_size=1, max_size=5))
    def append(self, sizes: list[int]) -> None:
        assert self.ledger
        new = [body for n, size in enumerate(sizes) for body in bodies(len(self.model) + n, size=size)]
        assert self.ledger.insert(self.ledger.chain(new)) == len(self.model) + 1
        self.model += new
        self.digests[self.ledger.position] = self.ledger.digest

    @OPEN
    @rule()
    def sleep_a_day(self) -> None:
        assert self.ledger
        next_day(self.ledger)

    @OPEN
    @rule()
    def find_no_room(self) -> None:
        """In the file that is written; it is given up unless a new file is due, that has room."""
        assert self.ledger
        segment, given_up = self.ledger._segment, bodies("given up", size=70_000)
        (limit,) = segment._database.execute("PRAGMA max_page_count").fetchone()
        segment._database.execute("PRAGMA max_page_count = 1")
        try:
            self.ledger.insert(self.ledger.chain(given_up))
        except sqlite3.OperationalError:
            segment._database.execute(f"PRAGMA max_page_count = {limit}")
            self.ledger.rewind()
        else:
            assert self.ledger._segment is not segment
            self.model += given_up

    @OPEN
    @rule()
    def close(self) -> None:
        if self.ledger:
            self.ledger.close()
            self.ledger = None

    @precondition(lambda self: self.ledger is None)
    @rule()
    def open(self) -> None:
        self.ledger = Ledger(self.folder, SMALL, self.key)
        assert (self.ledger.position, self.ledger.id) == (len(self.model), self.reader.id)

    @OPEN
    @rule(days=st.integers(1, 4), needed=st.integers(0, 40))
    def drop(self, days: int, needed: int) -> None:
        assert self.ledger
        for stone in self.ledger.drop_old(days, needed, datetime.now(UTC) + LATER):
            assert (stone.first > self.dropped, days < 4, stone.last < needed) == (True, True, True)
        self.dropped = files(self.folder)[0] - 1  # also what a killed process had begun to drop

    # ---- how it ends

    @OPEN
    @rule(half=st.sampled_from(["", "begun", "a new file", "a tombstone"]))
    def kill(self, half: str) -> None:
        """Go on with what lies on the disk now: what a killed process would have left, in the middle of something."""
        ledger = self.ledger
        assert ledger
        left = killed(self.folder)
        if half == "begun":
            (left / "begun").write_bytes(path_of(left, files(left)[-1]).read_bytes()[:5000])
            (left / "begun-journal").write_bytes(b"torn")
        if half == "a new file" and ledger.position >= files(left)[-1]:
            create(left, ledger.id, ledger.position + 1, ledger.digest, datetime.now(UTC))
        if half == "a tombstone" and len(files(left)) > 1:  # and its file still there
            first, following = files(left)[:2]
            with closing(SegmentReader(following, path_of(left, following))) as reader:
                stone = Tombstone(ledger.id, first, following - 1, reader.header().previous.hex(), datetime.now(UTC))
            stone.write(left, self.key)
        self.close()
        self.reader.close()
        shutil.rmtree(self.folder)
        left.rename(self.folder)
        self.check(self.folder)
        self.reader = LedgerReader(self.folder, self.key)

    # ---- what others do meanwhile

    @rule()
    def verify(self) -> None:
        self.check(self.folder)

    @rule()
    def copy(self) -> None:
        """Twice into the same place, over what is there from before."""
        place = self.folder.with_name("copy")
        self.reader.backup(place)
        assert self.reader.backup(place) == []
        self.check(place)

    @rule(after=st.integers(0, 60), limit=st.integers(1, 9))
    def read(self, after: int, limit: int) -> None:
        rows = self.reader.rows(after, limit)
        expected = list(enumerate(self.model, 1))[max(after, self.dropped) :][:limit]
        assert [(position, body) for position, _, body in rows] == expected[: len(rows)]
        assert bool(rows) == bool(expected)

    @invariant()
    def it_says_what_it_has(self) -> None:
        if hasattr(self, "reader"):
            assert (self.reader.head(), self.reader.first()) == (len(self.model), self.dropped + 1)
            self.reader.check_place()


def test_a_ledger_is_a_list_that_survives(tmp_path: Path) -> None:
    Machine.home = tmp_path
    run_state_machine_as_test(Machine, settings=settings(max_examples=12, stateful_step_count=15, deadline=None))
