"""The tables. Only the store and the admin use them."""

from typing import Any

from django.contrib.postgres.indexes import GinIndex
from django.db import models


class CodeField(models.Field):
    """A binary fingerprint: bytes in Python, `bit(n)` in Postgres, where `bit_count(a # b)` is the distance."""

    def __init__(self, bits: int, **kwargs: Any) -> None:
        self.bits = bits
        super().__init__(**kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, [self.bits, *args], kwargs

    def db_type(self, connection: Any) -> str:
        return f"bit({self.bits})"

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> bytes | None:
        return None if value is None else int(value, 2).to_bytes(self.bits // 8, "big")

    def get_prep_value(self, value: bytes | None) -> str | None:
        return None if value is None else bit_literal(value)


def bit_literal(code: bytes) -> str:
    """The code as Postgres writes a bit string: `b"\\x05"` is `00000101`."""
    return f"{int.from_bytes(code, 'big'):0{8 * len(code)}b}"


class Collection(models.Model):
    """A tenant's named set of images."""

    tenant = models.CharField(max_length=64)
    name = models.CharField(max_length=64)
    created = models.DateTimeField(auto_now_add=True)
    dropped = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="collection_name", condition=models.Q(dropped=None))
        ]

    def __str__(self) -> str:
        return self.name


class Image(models.Model):
    """An indexed image with its metadata and one column for each fingerprint."""

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, db_index=False)
    external_id = models.CharField("id", max_length=512)
    source_url = models.TextField("source", blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    format = models.CharField(max_length=16)
    size = models.PositiveBigIntegerField("bytes")
    sha256 = models.CharField(max_length=64)
    pdq = CodeField(256)
    phash = CodeField(64)
    dhash = CodeField(64)
    ahash = CodeField(64)
    quality = models.PositiveSmallIntegerField()
    recipe = models.PositiveSmallIntegerField()
    thumbnail = models.CharField(max_length=128)
    original = models.CharField(max_length=128, blank=True, default="")
    created = models.DateTimeField()
    updated = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["collection", "external_id"], name="image_external_id")]
        indexes = [
            models.Index(fields=["collection", "id"], name="image_page"),
            models.Index(fields=["collection", "sha256"], name="image_sha256"),
            models.Index(fields=["created"], name="image_created"),
            GinIndex(fields=["metadata"], opclasses=["jsonb_path_ops"], name="image_metadata"),
        ]

    def __str__(self) -> str:
        return self.external_id


class Change(models.Model):
    """One row of the log that every process's index follows; see store/changes.py."""

    seq = models.BigAutoField(primary_key=True)
    token = models.BigIntegerField()
    collection = models.BigIntegerField()
    image = models.BigIntegerField(null=True)
    op = models.CharField(max_length=1)


class Plan(models.Model):
    """What a key may do: calls in a calendar month (UTC) and in a second; no number is no limit."""

    name = models.CharField(max_length=64, unique=True)
    monthly = models.PositiveBigIntegerField("calls a month", null=True, blank=True)
    per_second = models.PositiveIntegerField("calls a second", null=True, blank=True)
    active = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A key of the API, kept as a digest; without an active plan it opens no metered call."""

    prefix = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64)
    name = models.CharField(max_length=128)
    tenant = models.CharField(max_length=64)
    plan = models.ForeignKey(Plan, null=True, blank=True, on_delete=models.PROTECT)
    created = models.DateTimeField(auto_now_add=True)
    revoked = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}...)"


class Meter(models.Model):
    """How many calls an account made in its latest second and in that second's month; see store/usage.py."""

    account = models.CharField(max_length=64, primary_key=True)
    second = models.DateTimeField()
    in_second = models.BigIntegerField()
    in_month = models.BigIntegerField()


class Usage(models.Model):
    """How many metered calls an account made in a day (UTC)."""

    account = models.CharField(max_length=64)
    day = models.DateField()
    calls = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "usage"
        constraints = [models.UniqueConstraint(fields=["account", "day"], name="usage_of_a_day")]
        indexes = [models.Index(fields=["day"], name="usage_day")]

    def __str__(self) -> str:
        return f"{self.account} on {self.day}"
