"""Quotas: exact for all processes together, by the second and by the calendar month."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from benchmarks import quota
from imgindex import models
from imgindex.services import access
from imgindex.store import usage
from imgindex.types import KeyUnknown, Quota, QuotaExceeded, RateLimited, ServiceError

pytestmark = pytest.mark.usefixtures("default_collection")

NOW = datetime(2030, 1, 15, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

Admit = Callable[..., Quota | None]


def key_on(*, monthly: int | None = None, per_second: int | None = None) -> str:
    models.Plan.objects.create(name="p", monthly=monthly, per_second=per_second)
    return access.create_key(name="k", plan="p")


def outcome(key: str, now: datetime) -> str | int:
    """The calls left after a call, or the error's name."""
    try:
        admitted = access.admit_key(key=key, now=now).quota
    except ServiceError as exc:
        return type(exc).__name__
    assert admitted is not None
    return admitted.remaining


def by_day() -> dict[date, int]:
    return dict(models.Usage.objects.values_list("day", "calls"))


def test_the_second_rolls_over() -> None:
    key = key_on(per_second=2)
    late = NOW.replace(microsecond=999_999)
    assert [outcome(key, NOW), outcome(key, late), outcome(key, late)] == [1, 0, "RateLimited"]
    assert [outcome(key, NOW + SECOND) for _ in range(3)] == [1, 0, "RateLimited"]
    assert outcome(key, NOW + 5 * SECOND) == 1
    assert by_day() == {NOW.date(): 5}


def test_the_month_rolls_over_in_utc() -> None:
    key = key_on(monthly=2)
    last = datetime(2030, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert [outcome(key, NOW), outcome(key, last), outcome(key, last)] == [1, 0, "QuotaExceeded"]
    first = datetime(2030, 2, 1, tzinfo=UTC)
    assert [outcome(key, first) for _ in range(3)] == [1, 0, "QuotaExceeded"]
    assert outcome(key, datetime(2031, 2, 1, tzinfo=UTC)) == 1
    assert by_day() == {date(2030, 1, 15): 1, date(2030, 1, 31): 1, date(2030, 2, 1): 2, date(2031, 2, 1): 1}


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (datetime(2030, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC), 1),
        (datetime(2030, 1, 31, 23, 59, 58, tzinfo=UTC), 2),
        (datetime(2030, 12, 1, tzinfo=UTC), 31 * 86_400),
        (datetime(2028, 2, 1, 0, 0, 1, tzinfo=UTC), 29 * 86_400 - 1),
    ],
)
def test_when_the_month_is_over(now: datetime, seconds: int) -> None:
    key = key_on(monthly=1)
    assert access.admit_key(key=key, now=now).quota == Quota(limit=1, remaining=0, reset_s=seconds)
    with pytest.raises(QuotaExceeded) as refused:
        access.admit_key(key=key, now=now)
    assert refused.value.quota == Quota(limit=1, remaining=0, reset_s=seconds)


def test_the_headers_speak_of_the_month_and_a_refusal_of_its_limit() -> None:
    key = key_on(monthly=3, per_second=1)
    assert access.admit_key(key=key, now=NOW).quota.limit == 3
    with pytest.raises(RateLimited, match=r"allows 1 calls? a second") as refused:
        access.admit_key(key=key, now=NOW)
    assert refused.value.quota == Quota(limit=1, remaining=0, reset_s=1)
    assert [outcome(key, NOW + n * SECOND) for n in (1, 2)] == [1, 0]
    for at in (NOW + 2 * SECOND, NOW + 3 * SECOND):
        with pytest.raises(QuotaExceeded):
            access.admit_key(key=key, now=at)


def test_a_refused_call_is_not_counted() -> None:
    key = key_on(monthly=5, per_second=1)
    assert outcome(key, NOW) == 4
    before = models.Meter.objects.values().get()
    for _ in range(10):
        assert outcome(key, NOW) == "RateLimited"
    assert models.Meter.objects.values().get() == before
    assert outcome(key, NOW + SECOND) == 3
    assert by_day() == {NOW.date(): 2}


def test_a_call_that_waited_counts_into_the_second_that_began_meanwhile() -> None:
    key = key_on(monthly=9, per_second=2)
    first = datetime(2030, 2, 1, tzinfo=UTC)
    assert outcome(key, first) == 8
    assert [outcome(key, first - SECOND) for _ in range(2)] == [7, "RateLimited"]
    meter = models.Meter.objects.get()
    assert (meter.second, meter.in_second, meter.in_month) == (first, 2, 2)
    assert by_day() == {first.date(): 2}


def test_a_clock_set_back_locks_nobody_out() -> None:
    key = key_on(per_second=1)
    assert outcome(key, NOW) == 0
    assert [outcome(key, NOW - timedelta(hours=1)) for _ in range(2)] == [0, "RateLimited"]


def test_limits_of_zero_allow_nothing() -> None:
    assert outcome(key_on(monthly=0), NOW) == "QuotaExceeded"
    models.Plan.objects.update(monthly=None, per_second=0)
    assert outcome(access.create_key(name="other", plan="p"), NOW) == "RateLimited"
    assert models.Meter.objects.count() == 0


def test_a_lowered_limit_counts_what_was_used() -> None:
    key = key_on(monthly=10)
    assert [outcome(key, NOW) for _ in range(3)] == [9, 8, 7]
    models.Plan.objects.filter(name="p").update(monthly=2)
    assert outcome(key, NOW) == "QuotaExceeded"


def test_a_key_revoked_in_between_is_refused_at_once() -> None:
    key = key_on(monthly=10)
    assert outcome(key, NOW) == 9
    access.revoke_key(prefix=access.prefix_of(key))
    with pytest.raises(KeyUnknown):
        access.admit_key(key=key, now=NOW)
    assert by_day() == {NOW.date(): 1}


@pytest.mark.parametrize("limited", ["month", "second", "anonymous"])
def test_processes_at_once_get_exactly_the_limit(limited: str) -> None:
    """4 processes x 50 calls against 40; `python -m benchmarks.quota` makes it 8 x 200 against 100."""
    key, now = None, NOW
    if limited == "anonymous":
        models.Plan.objects.create(name="anonymous", monthly=40)
    else:
        key = key_on(**{"month": {"monthly": 40}, "second": {"per_second": 40}}[limited])
    place = quota.Place("tests.settings", connection.settings_dict["NAME"])
    told = quota.storm(place, processes=4, calls=50, key=key, now=now)
    assert told == {"allowed": 40, "RateLimited" if limited == "second" else "QuotaExceeded": 160}
    meter = models.Meter.objects.get()
    assert (meter.in_second, meter.in_month) == (40, 40)
    assert by_day() == {NOW.date(): 40}


# Clearing away


def test_old_counts_are_cleared_away() -> None:
    today = NOW.date()
    for account, days in (("key:1", 0), ("key:1", 399), ("key:1", 401), ("client:a", 31), ("client:a", 33)):
        models.Usage.objects.create(account=account, day=today - timedelta(days=days), calls=1)
    for account, days in (("key:1", 1), ("key:2", 40), ("client:a", 40)):
        models.Meter.objects.create(account=account, second=NOW - timedelta(days=days), in_second=1, in_month=1)
    assert usage.prune(today=today)
    left = {(row.account, (today - row.day).days) for row in models.Usage.objects.all()}
    assert left == {("key:1", 0), ("key:1", 399), ("client:a", 31)}
    assert [row.account for row in models.Meter.objects.all()] == ["key:1"]


def test_clearing_goes_on_while_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_PRUNE_ROWS", 2)
    monkeypatch.setattr(access, "_pruned", None)
    for number in range(5):
        models.Usage.objects.create(account=f"client:{number}", day=NOW.date() - timedelta(days=99), calls=1)
    key, left = key_on(), []
    for _ in range(4):
        access.admit_key(key=key, now=NOW)
        left.append(models.Usage.objects.filter(account__startswith="client:").count())
    assert left == [3, 1, 0, 0]
    models.Usage.objects.create(account="client:x", day=NOW.date() - timedelta(days=99), calls=1)
    access.admit_key(key=key, now=NOW)
    assert models.Usage.objects.filter(account="client:x").exists()
    access.admit_key(key=key, now=NOW + timedelta(days=1))
    assert not models.Usage.objects.filter(account="client:x").exists()


def test_a_pooler_that_changes_connections_does_no_harm() -> None:
    key = key_on(monthly=9)
    assert outcome(key, NOW) == 8
    with connection.cursor() as cursor:
        for left in (7, 6):
            cursor.execute("DEALLOCATE ALL")
            assert outcome(key, NOW) == left
        usage._prepared.discard(connection.connection)
        assert outcome(key, NOW) == 5
        usage._prepared.discard(connection.connection)
        assert [outcome(key, NOW) for _ in range(3)] == [4, 3, 2]
    assert by_day() == {NOW.date(): 7}


def test_a_call_makes_one_round_trip() -> None:
    key = key_on(monthly=10)
    access.admit_key(key=key, now=NOW)
    with CaptureQueriesContext(connection) as queries:
        access.admit_key(key=key, now=NOW)
    assert len(queries) == 1
    assert settings.MIDDLEWARE[-1] == "imgindex.api.quota.middleware"
