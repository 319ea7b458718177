"""API keys in Postgres."""

from dataclasses import dataclass

from django.utils import timezone

from imgindex import models


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key's digest (SHA-256, hex) and the tenant that it speaks for."""

    digest: str
    tenant: str


def create(*, prefix: str, digest: str, name: str, tenant: str) -> None:
    """Keep a new key."""
    models.ApiKey.objects.create(prefix=prefix, digest=digest, name=name, tenant=tenant)


def active(*, prefix: str) -> StoredKey | None:
    """The key with that prefix unless it was revoked."""
    row = models.ApiKey.objects.filter(prefix=prefix, revoked=None).values_list("digest", "tenant").first()
    return StoredKey(*row) if row else None


def revoke(*, prefix: str) -> bool:
    """Mark the key with that prefix as revoked; whether there was one that was not."""
    return models.ApiKey.objects.filter(prefix=prefix, revoked=None).update(revoked=timezone.now()) > 0
