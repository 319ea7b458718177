"""This process's vector index, kept in step with Postgres before every search.

The index is derived data. Each process holds one exact index per collection and fingerprint and the position in the
change log up to which it has applied everything. `catch_up` asks the log for its last row: the same position means that
nothing happened since; a later one is applied from the own position on, whose row must still be there with the token
that was seen. If it is not - the log was pruned, a backup restored, a crash took back what was never acknowledged -
the process loads everything anew. Applying a change sets what the row says now, so applying it twice does no harm.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from django.db import connection, transaction

from imgindex.store import changes, codes, collections
from imgindex.store.changes import Change
from imgindex.store.codes import CodeRow
from imgindex.types import NotReady
from matching.index.base import HammingIndex
from matching.index.flat import FlatIndex
from matching.types import MIN_QUALITY

logger = logging.getLogger(__name__)

_BATCH = 5_000


class State:
    """The indexes as of one position in the log, and the directory of collections."""

    def __init__(self) -> None:
        self.position = changes.START
        self.collections: dict[tuple[str, str], int] = {}
        self.indexes: dict[int, dict[str, HammingIndex]] = defaultdict(
            lambda: {name: FlatIndex(codes.bits(name)) for name in codes.NAMES}
        )

    def put(self, collection: int, rows: Sequence[CodeRow]) -> None:
        """Set images of one collection; in each index a search sees all of them or none."""
        # Fingerprints of featureless pictures say nothing: those are found by equal bytes alone.
        good = [row for row in rows if row.quality >= MIN_QUALITY]
        flat = [row.image for row in rows if row.quality < MIN_QUALITY]
        if good:
            ids = np.array([row.image for row in good], dtype=np.int64)
            for i, (name, index) in enumerate(self.indexes[collection].items()):
                buffer = np.frombuffer(b"".join(row.codes[i] for row in good), dtype=np.uint8)
                index.put(ids, buffer.reshape(len(good), codes.bits(name) // 8))
        self.remove(collection, flat)

    def remove(self, collection: int, images: Sequence[int]) -> None:
        """Forget images of one collection."""
        if images and collection in self.indexes:
            ids = np.array(images, dtype=np.int64)
            for index in self.indexes[collection].values():
                index.remove(ids)

    def apply(self, log: Sequence[Change]) -> None:
        """Bring in a stretch of the log that one query has read.

        All its rows show the state of that query's snapshot, so the order among images does not matter. A dropped
        collection's images may still be there, so drops come last.
        """
        present: dict[int, dict[int, CodeRow]] = defaultdict(dict)
        gone: dict[int, set[int]] = defaultdict(set)
        dropped: set[int] = set()
        for change in log:
            if change.op == "c" and change.tenant is not None and change.name is not None:
                self.collections[change.tenant, change.name] = change.collection
            elif change.op == "x":
                dropped.add(change.collection)
            elif change.row is not None:
                present[change.collection][change.row.image] = change.row
            elif change.image is not None:
                gone[change.collection].add(change.image)
        for collection, rows in present.items():
            self.put(collection, list(rows.values()))
        for collection, images in gone.items():
            self.remove(collection, list(images))
        for collection in dropped:
            self.indexes.pop(collection, None)
        if dropped:
            self.collections = {name: pk for name, pk in self.collections.items() if pk not in dropped}
        self.position = log[-1].position


class Replica:
    """The state of this process, with the lock under which it moves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: State | None = None

    def catch_up(self, *, patience_s: float = -1) -> State:
        """The state with every change that was acknowledged before the call.

        The first call of a process loads everything; calls meanwhile wait for it, so no search ever answers from half
        an index. Raises NotReady after `patience_s` of waiting for another thread, if that is not negative.
        """
        state = self._state
        if state is not None and state.position == changes.head():
            return state
        if not self._lock.acquire(timeout=patience_s):
            raise NotReady("The index is being loaded.")
        try:
            state = self._state or _load()
            # Read again: while this thread waited, another one may have gone past the head that it saw.
            head = changes.head()
            if state.position != head:
                state = _advance(state)
            # Up to that head and no further, or a search would chase busy writers for ever.
            while state.position.seq < head.seq:
                reached = state.position
                state = _advance(state)
                if state.position == reached:
                    break  # the log ends here by now: a backup was restored since the head was read
            self._state = state
        finally:
            self._lock.release()
        return state


def _advance(state: State) -> State:
    """Apply the next stretch of the log, or load anew where the own position is not in the log any more."""
    log = changes.since(state.position.seq, limit=_BATCH)
    if not log or log[0].position != state.position:
        logger.warning("the change log does not continue at %d: loading the index anew", state.position.seq)
        return _load()
    if len(log) > 1:
        state.apply(log[1:])
    return state


def _load() -> State:
    """Read everything from Postgres, in one snapshot with the log's last row."""
    began = time.monotonic()
    state = State()
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        state.position = changes.head()
        state.collections = {(row.tenant, row.name): row.id for row in collections.everything()}
        count = 0
        for rows in codes.stream(batch=_BATCH):
            by_collection: dict[int, list[CodeRow]] = defaultdict(list)
            for row in rows:
                by_collection[row.collection].append(row)
            for part in by_collection.values():
                state.put(part[0].collection, part)
            count += len(rows)
    logger.info("loaded %d images at change %d in %.2f s", count, state.position.seq, time.monotonic() - began)
    return state


replica = Replica()
"""The one replica of this process."""
