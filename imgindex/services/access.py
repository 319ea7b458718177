"""Who may ask: API keys and the tenant they speak for."""

import hashlib
import hmac
import secrets
from contextlib import suppress

from django.conf import settings

from imgindex.services import catalogue
from imgindex.store import keys
from imgindex.types import Caller, CollectionExists, KeyMissing, KeyUnknown

DEFAULT_TENANT = "default"

_PREFIX = 12


def create_key(*, name: str, tenant: str = DEFAULT_TENANT) -> str:
    """Make a key of 256 random bits. This is the only time it is seen: its digest alone is kept.

    A tenant's first key also makes the tenant's collection `default`.
    """
    key = f"ix_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    keys.create(prefix=prefix_of(key), digest=_digest(key), name=name, tenant=tenant)
    with suppress(CollectionExists):
        catalogue.collection_create(caller=Caller(tenant), name=catalogue.DEFAULT_COLLECTION)
    return key


def prefix_of(key: str) -> str:
    """The readable beginning of a key, by which it is found and told from others."""
    return key[:_PREFIX]


def revoke_key(*, prefix: str) -> bool:
    """Close a key for good; whether one with that prefix was open. The next call with it is refused."""
    return keys.revoke(prefix=prefix)


def caller(*, key: str | None) -> Caller:
    """The caller that a key names; without a key the default tenant, while OPEN_ACCESS is on.

    Raises KeyMissing and KeyUnknown. A wrong key is refused even while OPEN_ACCESS is on: whoever sends one means it.
    """
    if key is None:
        if settings.OPEN_ACCESS:
            return Caller(DEFAULT_TENANT)
        raise KeyMissing("This call needs an API key: send it as 'Authorization: Bearer <key>'.")
    tenant = _tenant(key)
    if tenant is None:
        raise KeyUnknown("The API key is unknown or was revoked.")
    return Caller(tenant)


def is_valid(key: str) -> bool:
    """Whether the key opens anything."""
    return _tenant(key) is not None


def _tenant(key: str) -> str | None:
    if "\0" in key:
        return None
    stored = keys.active(prefix=prefix_of(key))
    if stored is None or not hmac.compare_digest(stored.digest, _digest(key)):
        return None
    return stored.tenant


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
