"""Collections in Postgres."""

from collections.abc import Iterable

from django.db import IntegrityError, transaction
from django.db.models import Count

from imgindex import models
from imgindex.types import Collection


def _collection(row: models.Collection) -> Collection:
    return Collection(
        id=row.pk, tenant=row.tenant, name=row.name, created=row.created, images=getattr(row, "images", None)
    )


def create(*, tenant: str, name: str) -> Collection | None:
    """Create a collection; None where the tenant has one of that name."""
    try:
        with transaction.atomic():
            return _collection(models.Collection.objects.create(tenant=tenant, name=name))
    except IntegrityError:
        return None


def exists(*, collection: int) -> bool:
    """Whether a collection is still there; asked under the log's lock before rows are added to it."""
    return models.Collection.objects.filter(pk=collection).exists()


def get(*, tenant: str, name: str, counted: bool = False) -> Collection | None:
    """A tenant's collection by name, on request with the number of its images."""
    query = models.Collection.objects.filter(tenant=tenant, name=name)
    row = (query.annotate(images=Count("image")) if counted else query).first()
    return _collection(row) if row else None


def of_tenant(*, tenant: str) -> list[Collection]:
    """A tenant's collections by name, with the number of their images."""
    rows = models.Collection.objects.filter(tenant=tenant).annotate(images=Count("image")).order_by("name")
    return [_collection(row) for row in rows]


def everything() -> Iterable[Collection]:
    """Every tenant's collections."""
    return [_collection(row) for row in models.Collection.objects.order_by("pk").iterator()]


def delete(*, collection: int) -> bool:
    """Delete a collection that holds no images any more; whether it was there."""
    deleted, _ = models.Collection.objects.filter(pk=collection).delete()
    return deleted > 0
