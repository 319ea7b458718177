"""Plans and what was used of them, counted exactly for all processes together.

An account is a key or an anonymous client. It has one row in the meter, which holds its latest second, the calls
counted in that second and those in that second's calendar month (UTC). A call is one statement: it finds the key,
takes the row, and counts only if both limits leave room, so two calls can never both take the last one. Postgres
holds the row's lock while it looks at the row that it updates, whatever other processes do meanwhile.

The clock is the database's, one for all hosts. A call that waited for the row may be older than the second in it: it
counts into that later second, which never goes back. If the row is more than a minute ahead, the clock was set
back, and counting starts anew.

The statement commits with `synchronous_commit = off`: a crash of Postgres may take back the calls of its last moments
(three times `wal_writer_delay`, 0.6 s), so a caller may get those few again. Nothing else is lost, and no call waits
for the disk. It must therefore not run inside a transaction that writes anything else.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from weakref import WeakSet

from django.db import Error, connection
from psycopg.errors import DuplicatePreparedStatement, InvalidSqlStatementName

from imgindex import models

KEPT_DAYS = 400
"""Days that the usage of keys is kept; 13 months."""

KEPT_DAYS_ANONYMOUS = 32
"""Days that the usage of anonymous clients is kept; the longest month and a day."""

_PRUNE_ROWS = 10_000
_CLIENT = "client:"


@dataclass(frozen=True, slots=True)
class Count:
    """What became of a call.

    `tenant` is the key's, None for a client without a key. `open` is False where there is no active plan: then nothing
    was counted. `counted` is False where a limit was reached. The numbers include this call if it was counted.
    `at` is the time by the database's clock.
    """

    account: str
    tenant: str | None
    plan: str | None
    open: bool
    monthly: int | None
    per_second: int | None
    counted: bool
    in_second: int
    in_month: int
    at: datetime


_KEY = """
  SELECT 'key:' || k.id AS account, k.tenant, p.name AS plan, COALESCE(p.active, false) AS open, p.monthly, p.per_second
  FROM imgindex_apikey k LEFT JOIN imgindex_plan p ON p.id = k.plan_id
  WHERE k.prefix = %(prefix)s AND k.revoked IS NULL
    AND sha256(%(nonce)s::bytea || convert_to(k.digest, 'UTF8')) = %(proof)s::bytea
"""

_ANONYMOUS = """
  SELECT %(account)s::text AS account, NULL::text AS tenant, p.name AS plan, COALESCE(p.active, true) AS open,
    p.monthly, p.per_second
  FROM (SELECT 1) AS one LEFT JOIN imgindex_plan p ON p.name = %(plan)s
"""

# The second that the call counts into, and how many calls of it and of its month the row holds already.
_SECOND = """CASE WHEN m.second BETWEEN excluded.second AND excluded.second + interval '1 minute'
  THEN m.second ELSE excluded.second END"""
_IN_SECOND = f"CASE WHEN m.second = {_SECOND} THEN m.in_second ELSE 0 END"
_IN_MONTH = f"""CASE WHEN date_trunc('month', m.second, 'UTC') = date_trunc('month', {_SECOND}, 'UTC')
  THEN m.in_month ELSE 0 END"""

_COUNT = f"""
WITH clock AS MATERIALIZED (
  SELECT COALESCE(%(now)s::timestamptz, clock_timestamp()) AS at, set_config('synchronous_commit', 'off', true)
), who AS MATERIALIZED ({{who}}), counted AS (
  INSERT INTO imgindex_meter AS m (account, second, in_second, in_month)
  SELECT account, date_trunc('second', at), 1, 1 FROM who, clock
  WHERE open AND COALESCE(monthly, 1) > 0 AND COALESCE(per_second, 1) > 0
  ON CONFLICT (account) DO UPDATE
  SET second = {_SECOND}, in_second = {_IN_SECOND} + 1, in_month = {_IN_MONTH} + 1
  WHERE ((SELECT per_second FROM who) IS NULL OR {_IN_SECOND} < (SELECT per_second FROM who))
    AND ((SELECT monthly FROM who) IS NULL OR {_IN_MONTH} < (SELECT monthly FROM who))
  RETURNING account, second, in_second, in_month
), daily AS (
  INSERT INTO imgindex_usage AS u (account, day, calls)
  SELECT account, (second AT TIME ZONE 'UTC')::date, 1 FROM counted
  ON CONFLICT (account, day) DO UPDATE SET calls = u.calls + 1
)
SELECT who.account, tenant, plan, open, monthly, per_second, c.account IS NOT NULL,
  COALESCE(c.in_second, CASE WHEN m.second = date_trunc('second', at) THEN m.in_second END, 0),
  COALESCE(c.in_month,
    CASE WHEN date_trunc('month', m.second, 'UTC') = date_trunc('month', at, 'UTC') THEN m.in_month END, 0),
  GREATEST(at, c.second)
FROM clock CROSS JOIN who LEFT JOIN counted c ON true
LEFT JOIN imgindex_meter m ON c.account IS NULL AND m.account = who.account
"""
# Of a refused call the last lines tell how things stood when the statement began; the refusal itself looked later.


@dataclass(frozen=True, slots=True)
class _Statement:
    """The statement for one kind of account; `takes` names its parameters with their types."""

    name: str
    takes: dict[str, str]
    sql: str

    @property
    def prepare(self) -> str:
        numbered = {name: f"${number}" for number, name in enumerate(self.takes, 1)}
        return f"PREPARE {self.name} ({', '.join(self.takes.values())}) AS {self.sql % numbered}"

    @property
    def execute(self) -> str:
        return f"EXECUTE {self.name} ({', '.join(f'%({name})s' for name in self.takes)})"


_COUNT_KEY = _Statement(
    "imgindex_count_key",
    {"prefix": "text", "nonce": "bytea", "proof": "bytea", "now": "timestamptz"},
    _COUNT.format(who=_KEY),
)
_COUNT_ANONYMOUS = _Statement(
    "imgindex_count_anonymous",
    {"account": "text", "plan": "text", "now": "timestamptz"},
    _COUNT.format(who=_ANONYMOUS),
)

_prepared: WeakSet[Any] = WeakSet()
"""The connections that know the statements."""


def count_key(*, prefix: str, nonce: bytes, proof: bytes, now: datetime | None = None) -> Count | None:
    """Count a call against a key's plan; None where no open key has that prefix and that digest.

    `proof` is the SHA-256 of `nonce` and the digest in hexadecimal. A nonce of 16 random bytes, new for each call,
    makes the time that the comparison takes say nothing about the digest. `now` stands in for the database's clock.
    """
    return _count(_COUNT_KEY, {"prefix": prefix, "nonce": nonce, "proof": proof, "now": now})


def count_client(*, client: str, plan: str, now: datetime | None = None) -> Count:
    """Count a call against what one anonymous client may do under a plan; a missing plan limits nothing."""
    count = _count(_COUNT_ANONYMOUS, {"account": client_account(client), "plan": plan, "now": now})
    assert count is not None
    return count


def _count(statement: _Statement, parameters: dict[str, Any]) -> Count | None:
    with connection.cursor() as cursor:
        try:
            # Parsing and planning it takes six times as long as running it.
            if connection.connection not in _prepared:
                for each in (_COUNT_KEY, _COUNT_ANONYMOUS):
                    cursor.execute(each.prepare)
                _prepared.add(connection.connection)
            cursor.execute(statement.execute, parameters)
        except Error as exc:
            if not isinstance(exc.__cause__, InvalidSqlStatementName | DuplicatePreparedStatement):
                raise
            # A pooler between us and Postgres gave this call another connection than the last one: nothing was run.
            _prepared.discard(connection.connection)
            cursor.execute(statement.sql, parameters)
        row = cursor.fetchone()
    return Count(*row) if row else None


def key_account(number: int) -> str:
    """The account of the key with that primary key."""
    return f"key:{number}"


def client_account(client: str) -> str:
    """The account of an anonymous client, known by the hash of its address."""
    return f"{_CLIENT}{client}"


def in_month(*, account: str, now: datetime) -> int:
    """The calls that an account has made in the month (UTC) of `now`."""
    meter = models.Meter.objects.filter(account=account, second__gte=now.replace(day=1, hour=0, minute=0, second=0))
    return meter.values_list("in_month", flat=True).first() or 0


def by_day(*, account: str, since: date) -> dict[date, int]:
    """The calls of an account on each day from `since` on, days without any left out."""
    return dict(models.Usage.objects.filter(account=account, day__gte=since).values_list("day", "calls"))


def prune(*, today: date) -> bool:
    """Delete what is past keeping, up to 10,000 rows of each table; whether that was all.

    A meter whose latest second lies in a month gone by says nothing any more: the account's next call starts anew.
    """
    anonymous, keys = today - timedelta(days=KEPT_DAYS_ANONYMOUS), today - timedelta(days=KEPT_DAYS)
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM imgindex_meter WHERE account IN"
            " (SELECT account FROM imgindex_meter WHERE second < %s LIMIT %s FOR UPDATE SKIP LOCKED)",
            [anonymous, _PRUNE_ROWS],
        )
        meters = cursor.rowcount
        cursor.execute(
            "DELETE FROM imgindex_usage WHERE id IN (SELECT id FROM imgindex_usage"
            " WHERE day < %s AND (day < %s OR starts_with(account, %s)) LIMIT %s FOR UPDATE SKIP LOCKED)",
            [anonymous, keys, _CLIENT, _PRUNE_ROWS],
        )
        return meters < _PRUNE_ROWS and cursor.rowcount < _PRUNE_ROWS
