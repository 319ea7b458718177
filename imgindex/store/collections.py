"""Collections in Postgres."""

from collections.abc import Iterable

from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet
from django.db.models.functions import Now

from imgindex import models
from imgindex.types import Collection


def _collection(row: models.Collection) -> Collection:
    return Collection(
        id=row.pk, tenant=row.tenant, name=row.name, created=row.created, images=getattr(row, "images", None)
    )


def _live() -> QuerySet[models.Collection]:
    return models.Collection.objects.filter(dropped=None)


def create(*, tenant: str, name: str) -> Collection | None:
    """Create a collection; None where the tenant has one of that name."""
    try:
        with transaction.atomic():
            return _collection(models.Collection.objects.create(tenant=tenant, name=name))
    except IntegrityError:
        return None


def exists(*, collection: int) -> bool:
    """Whether a collection is still there; asked under the log's lock before rows are added to it."""
    return _live().filter(pk=collection).exists()


def get(*, tenant: str, name: str, counted: bool = False) -> Collection | None:
    """A tenant's collection by name, on request with the number of its images."""
    query = _live().filter(tenant=tenant, name=name)
    row = (query.annotate(images=Count("image")) if counted else query).first()
    return _collection(row) if row else None


def of_tenant(*, tenant: str) -> list[Collection]:
    """A tenant's collections by name, with the number of their images."""
    rows = _live().filter(tenant=tenant).annotate(images=Count("image")).order_by("name")
    return [_collection(row) for row in rows]


def everything() -> Iterable[Collection]:
    """Every tenant's collections."""
    return [_collection(row) for row in _live().order_by("pk").iterator()]


def drop(*, collection: int) -> bool:
    """Take a collection out of everybody's sight, its images still in place; whether it was there."""
    return _live().filter(pk=collection).update(dropped=Now()) > 0


def dropped() -> list[int]:
    """The collections that were dropped and are not yet deleted."""
    return list(models.Collection.objects.exclude(dropped=None).values_list("pk", flat=True))


def delete(*, collection: int) -> None:
    """Delete a dropped collection that holds no images any more."""
    models.Collection.objects.filter(pk=collection).exclude(dropped=None).delete()
