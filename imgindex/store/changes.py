"""The change log: how a write reaches the index of every process, in commit order.

A write does its slow work first and then enters `write()`: one lock for all writers, the rows, one log row for
each change, commit. A log row's `seq` is drawn under the lock, so the order of numbers is the order of commits
and whoever has read the log up to a number has missed nothing below it. Without the lock a row could appear
behind a reader that had already passed its number.

The lock holds no disk flush, or each writer would wait for every other one's: the transaction under the lock
commits with `synchronous_commit = off`, and before the write is acknowledged a second, tiny transaction makes the
log durable up to it; Postgres lets all waiting writers share that flush. What a crash takes back in between was
never acknowledged, and a process that had already seen it notices by the row's random token and reloads.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from django.db import connection, transaction

from imgindex.store import codes
from imgindex.store.codes import CodeRow

Op = Literal["p", "d", "c", "x"]
"""What happened: image put, image deleted, collection created, collection dropped."""

# Any constant will do, as long as nothing else in the database takes the same advisory lock.
_LOCK = 0x696D67696E646578

_PRUNE_EVERY = 10_000


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log: the number of a row and its random token, which tells histories apart."""

    seq: int
    token: int


START = Position(0, 0)
"""The place before the first change ever."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the log with the present state of what it names; `row` is None where the image is gone."""

    position: Position
    op: Op
    collection: int
    image: int | None
    row: CodeRow | None
    tenant: str | None
    name: str | None


@dataclass(slots=True)
class Log:
    """Takes the changes of one write; `seq` is the number of the last one recorded."""

    seq: int = 0
    prune_due: bool = False

    def record(self, op: Op, *, collection: int, images: list[int] | None = None) -> int:
        """Write one row for each image, or a single one about the collection itself; the last row's number."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO imgindex_change (token, collection, image, op)"
                " SELECT t, %s, i, %s FROM unnest(%s::bigint[], %s::bigint[]) AS u(t, i) RETURNING seq",
                [collection, op, [secrets.randbits(63) for _ in images or [0]], images or [None]],
            )
            seqs = [row[0] for row in cursor.fetchall()]
        self.seq = max(seqs)
        # Any of them: a writer of hundreds of rows at a time might never end on a round number.
        self.prune_due |= any(seq % _PRUNE_EVERY == 0 for seq in seqs)
        return self.seq


@contextmanager
def write() -> Iterator[Log]:
    """A write transaction under the log's lock; durable and visible to every search once the block has ended."""
    log = Log()
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('synchronous_commit', 'off', true), pg_advisory_xact_lock(%s)", [_LOCK])
        yield log
        if log.prune_due:
            prune(keep=settings.CHANGE_LOG_ROWS)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_logical_emit_message(true, 'flush', '')")


def head() -> Position:
    """The last row of the log; what every search asks before it answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq, token FROM imgindex_change ORDER BY seq DESC LIMIT 1")
        row = cursor.fetchone()
    return Position(*row) if row else START


def since(seq: int, *, limit: int) -> list[Change]:
    """The log from row `seq` on, that row included, each change joined with what it names as it stands now.

    A change may show a later state than its own: then the later change follows, and applying it again does no harm.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT c.seq, c.token, c.op, c.collection, c.image, k.tenant, k.name, i.id, {codes.columns('i')}"
            " FROM imgindex_change c"
            " LEFT JOIN imgindex_image i ON i.id = c.image AND i.collection_id = c.collection"
            " LEFT JOIN imgindex_collection k ON k.id = c.collection AND c.op = 'c' AND k.dropped IS NULL"
            " WHERE c.seq >= %s ORDER BY c.seq LIMIT %s",
            [seq, limit],
        )
        return [_change(row) for row in cursor.fetchall()]


def _change(row: tuple[Any, ...]) -> Change:
    seq, token, op, collection, image, tenant, name, present, *rest = row
    return Change(
        position=Position(seq, token),
        op=op,
        collection=collection,
        image=image,
        row=None if present is None else codes.from_text(collection, present, rest),
        tenant=tenant,
        name=name,
    )


def prune(*, keep: int) -> int:
    """Delete all but the newest `keep` rows, of which there is at least one; how many went."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM imgindex_change WHERE seq <="
            " (SELECT seq FROM imgindex_change ORDER BY seq DESC OFFSET %s LIMIT 1)",
            [max(keep, 1)],
        )
        return int(cursor.rowcount)
