"""API keys and plans in Postgres."""

from dataclasses import dataclass

from django.db.models import QuerySet
from django.utils import timezone

from imgindex import models
from imgindex.types import Plan


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key's number, its digest (SHA-256, hex) and the tenant that it speaks for."""

    id: int
    digest: str
    tenant: str


def create(*, prefix: str, digest: str, name: str, tenant: str, plan: str | None) -> bool:
    """Keep a new key on a plan, or on none; False where there is no such plan."""
    chosen = models.Plan.objects.filter(name=plan).first() if plan is not None else None
    if plan is not None and chosen is None:
        return False
    models.ApiKey.objects.create(prefix=prefix, digest=digest, name=name, tenant=tenant, plan=chosen)
    return True


def active(*, prefix: str) -> StoredKey | None:
    """The key with that prefix unless it was revoked."""
    row = models.ApiKey.objects.filter(prefix=prefix, revoked=None).values_list("pk", "digest", "tenant").first()
    return StoredKey(*row) if row else None


def revoke(*, prefix: str) -> bool:
    """Mark the key with that prefix as revoked; whether there was one that was not."""
    return models.ApiKey.objects.filter(prefix=prefix, revoked=None).update(revoked=timezone.now()) > 0


def set_plan(*, prefix: str, plan: str | None) -> bool:
    """Put the key with that prefix on a plan, or on none; False where there is no such key or plan."""
    chosen = models.Plan.objects.filter(name=plan).first() if plan is not None else None
    if plan is not None and chosen is None:
        return False
    return models.ApiKey.objects.filter(prefix=prefix).update(plan=chosen) > 0


def plan(*, name: str) -> Plan | None:
    """The plan of that name."""
    return _plan(models.Plan.objects.filter(name=name))


def plan_of(*, key: int) -> Plan | None:
    """The plan of the key with that number, None where it has none."""
    return _plan(models.Plan.objects.filter(apikey=key))


def plan_names() -> list[str]:
    """The names of all plans."""
    return list(models.Plan.objects.order_by("name").values_list("name", flat=True))


def ensure_plan(*, name: str) -> None:
    """Have a plan of that name; a new one limits nothing."""
    models.Plan.objects.get_or_create(name=name)


def _plan(rows: QuerySet[models.Plan]) -> Plan | None:
    row = rows.values_list("name", "monthly", "per_second", "active").first()
    return Plan(*row) if row else None
