"""Who may ask: API keys, the tenant they speak for, and how much their plans allow."""

import hashlib
import hmac
import logging
import secrets
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db import Error
from django.utils.crypto import salted_hmac

from imgindex.services import catalogue
from imgindex.store import keys, usage
from imgindex.store.usage import Count
from imgindex.types import (
    Admission,
    Caller,
    CollectionExists,
    InvalidInput,
    KeyMissing,
    KeyUnknown,
    Plan,
    PlanRequired,
    Quota,
    QuotaExceeded,
    RateLimited,
    UsageReport,
)

logger = logging.getLogger(__name__)

DEFAULT_TENANT = "default"

UNLIMITED = "unlimited"
"""The plan of keys for which none was chosen."""

ANONYMOUS = "anonymous"
"""The plan of calls without a key, for each client address by itself."""

CHART_DAYS = 30

_PREFIX = 12
_NEEDS_KEY = "This call needs an API key: send it as 'Authorization: Bearer <key>'."
_UNKNOWN = "The API key is unknown or was revoked."


def create_key(*, name: str, tenant: str = DEFAULT_TENANT, plan: str | None = UNLIMITED) -> str:
    """Make a key of 256 random bits on a plan. This is the only time it is seen: its digest alone is kept.

    A tenant's first key also makes the tenant's collection `default`. Without a plan (None) the key opens no metered
    call. Raises InvalidInput where there is no such plan; `unlimited` always is.
    """
    key = f"ix_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    if plan == UNLIMITED:
        keys.ensure_plan(name=UNLIMITED)
    if not keys.create(prefix=prefix_of(key), digest=_digest(key), name=name, tenant=tenant, plan=plan):
        raise InvalidInput(f"There is no plan {plan!r}; there are: {', '.join(keys.plan_names()) or 'none'}.")
    with suppress(CollectionExists):
        catalogue.collection_create(caller=Caller(tenant), name=catalogue.DEFAULT_COLLECTION)
    return key


def prefix_of(key: str) -> str:
    """The readable beginning of a key, by which it is found and told from others."""
    return key[:_PREFIX]


def revoke_key(*, prefix: str) -> bool:
    """Close a key for good; whether one with that prefix was open. The next call with it is refused."""
    return keys.revoke(prefix=prefix)


def change_plan(*, prefix: str, plan: str | None) -> None:
    """Put a key on another plan, or on none, from its next call on; what it has used this month still counts.

    Raises InvalidInput where there is no such key or plan.
    """
    if not keys.set_plan(prefix=prefix, plan=plan):
        raise InvalidInput(f"There is no key {prefix!r} or no plan {plan!r}.")


def caller(*, key: str | None) -> Caller:
    """The caller that a key names; without a key the default tenant, while OPEN_ACCESS is on. Nothing is counted.

    Raises KeyMissing and KeyUnknown. A wrong key is refused even while OPEN_ACCESS is on: whoever sends one means it.
    """
    if key is None:
        if settings.OPEN_ACCESS:
            return Caller(DEFAULT_TENANT)
        raise KeyMissing(_NEEDS_KEY)
    stored = _stored(key)
    if stored is None:
        raise KeyUnknown(_UNKNOWN)
    return Caller(stored.tenant)


def is_valid(key: str) -> bool:
    """Whether the key opens anything."""
    return _stored(key) is not None


# --- metered calls


def admit_key(*, key: str | None, now: datetime | None = None) -> Admission:
    """Let a call in that needs a key, and count it against the key's plan.

    Raises KeyMissing, KeyUnknown, PlanRequired, RateLimited and QuotaExceeded; a call that is refused is not counted.
    `now` stands in for the database's clock.
    """
    if key is None:
        raise KeyMissing(_NEEDS_KEY)
    if not _sound(key):
        raise KeyUnknown(_UNKNOWN)
    nonce = secrets.token_bytes(16)
    proof = hashlib.sha256(nonce + _digest(key).encode()).digest()
    count = usage.count_key(prefix=prefix_of(key), nonce=nonce, proof=proof, now=now)
    if count is None or count.tenant is None:
        raise KeyUnknown(_UNKNOWN)
    if not count.open:
        raise PlanRequired("The API key has no active plan.")
    return Admission(Caller(count.tenant), _quota(count))


def admit(*, key: str | None, address: str, now: datetime | None = None) -> Admission:
    """Let a call in that works without a key while OPEN_ACCESS is on, and count it.

    With a key it counts against the key's plan, without one against the plan `anonymous`, for each client address by
    itself. Raises what `admit_key` raises; KeyMissing also where that plan is not active.
    """
    if key is not None or not settings.OPEN_ACCESS:
        return admit_key(key=key, now=now)
    count = usage.count_client(client=client_hash(address), plan=ANONYMOUS, now=now)
    if not count.open:
        raise KeyMissing(_NEEDS_KEY)
    return Admission(Caller(DEFAULT_TENANT), _quota(count))


def client_hash(address: str) -> str:
    """What is kept of a client address: 32 hexadecimal digits that only this service can compute."""
    return salted_hmac("imgindex.client", address, algorithm="sha256").hexdigest()[:32]


def _quota(count: Count) -> Quota | None:
    """Where the count leaves the caller, by the month where that is limited. Raises RateLimited and QuotaExceeded."""
    _prune_daily(count.at.astimezone(UTC).date())
    month = None
    if count.monthly is not None:
        left = max(0, count.monthly - count.in_month)
        month = Quota(limit=count.monthly, remaining=left, reset_s=_seconds_left_of_month(count.at))
    second = None
    if count.per_second is not None:
        left = max(0, count.per_second - count.in_second)
        second = Quota(limit=count.per_second, remaining=left, reset_s=1)
    if count.counted:
        return month or second
    # Others may have taken the last calls of the month since the numbers were read: then the next try tells.
    if month is not None and (month.remaining == 0 or second is None):
        raise QuotaExceeded(
            f"The plan '{count.plan}' allows {month.limit:,} calls a month (UTC), and they are used up.",
            Quota(month.limit, 0, month.reset_s),
        )
    assert second is not None
    raise RateLimited(f"The plan '{count.plan}' allows {second.limit:,} calls a second.", Quota(second.limit, 0, 1))


def _seconds_left_of_month(at: datetime) -> int:
    at = at.astimezone(UTC)
    following = (at.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return max(1, -((at - following) // timedelta(seconds=1)))


_pruned: date | None = None


def _prune_daily(today: date) -> None:
    """Clear old counts away: on this process's first metered call of a day."""
    global _pruned
    if _pruned is not None and _pruned >= today:
        return
    _pruned = today
    try:
        if not usage.prune(today=today):
            _pruned = None  # there is more than one go takes: the next call goes on
    except Error:  # no reason to refuse the call, nor to try again with each
        logger.exception("could not clear old counts away")


# --- what was used


def usage_report(*, key: str | None, address: str, now: datetime | None = None) -> UsageReport:
    """What the caller has used, by the key, or by the client address without one. Nothing is counted.

    Raises KeyMissing and KeyUnknown.
    """
    if key is not None:
        stored = _stored(key)
        if stored is None:
            raise KeyUnknown(_UNKNOWN)
        plan, account = keys.plan_of(key=stored.id), usage.key_account(stored.id)
    elif settings.OPEN_ACCESS:
        plan, account = keys.plan(name=ANONYMOUS), usage.client_account(client_hash(address))
    else:
        raise KeyMissing(_NEEDS_KEY)
    return _report(plan, account, now or datetime.now(UTC))


def key_usage_by_day(*, number: int, now: datetime | None = None) -> list[tuple[date, int]]:
    """The calls of the key with that primary key on each of the last 30 days (UTC), today last."""
    return _days(usage.key_account(number), (now or datetime.now(UTC)).date())


def _report(plan: Plan | None, account: str, now: datetime) -> UsageReport:
    return UsageReport(
        plan=plan,
        month=now.date().replace(day=1),
        in_month=usage.in_month(account=account, now=now),
        days=_days(account, now.date()),
    )


def _days(account: str, today: date) -> list[tuple[date, int]]:
    days = [today - timedelta(days=back) for back in reversed(range(CHART_DAYS))]
    calls = usage.by_day(account=account, since=days[0])
    return [(day, calls.get(day, 0)) for day in days]


# --- keys


def _stored(key: str) -> keys.StoredKey | None:
    if not _sound(key):
        return None
    stored = keys.active(prefix=prefix_of(key))
    if stored is None or not hmac.compare_digest(stored.digest, _digest(key)):
        return None
    return stored


def _sound(key: str) -> bool:
    """Whether Postgres can be asked about it: a key is ASCII."""
    return key.isascii() and "\0" not in key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
