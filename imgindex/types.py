"""Values and errors of the service: what passes between store, services and the ways in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

Metadata = dict[str, Any]
"""A JSON object that the user attaches to an image."""

Kind = Literal["exact", "near"]
"""How a hit matches: `exact` has equal bytes, `near` has a fingerprint within the radius."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of images that belongs to one tenant; `images` is their number, where it was asked for."""

    id: int
    tenant: str
    name: str
    created: datetime
    images: int | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """One indexed image: `id` is the user's, `pk` the internal number that the vector index holds."""

    pk: int
    id: str
    source_url: str
    metadata: Metadata
    width: int
    height: int
    format: str
    size: int
    sha256: str
    fingerprints: Mapping[str, bytes]
    quality: int
    thumbnail: str
    original: str
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """What tells whether a file is the one that was indexed: where it came from, its size in bytes, digest and date."""

    source_url: str
    size: int
    sha256: str
    updated: datetime


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to a write: the image as it stands now, the change's number, and whether it is new."""

    image: Image
    seq: int
    created: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result; `distance` in bits of the fingerprint searched, `similarity` 0 to 100."""

    image: Image
    distance: int
    similarity: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What a search found, best first.

    `indexed_through` is the number of the last change that the answer takes into account. `quality` is the
    query's PDQ quality where a picture was given; below the limit `searched_by` is `bytes`: the picture has
    too little texture for its fingerprint to mean anything, so only files with equal bytes are found.
    """

    hits: list[Hit]
    indexed_through: int
    hash_type: str
    max_distance: int
    searched_by: Literal["fingerprint", "bytes"]
    quality: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; `next_after` continues it, None where it ends."""

    images: list[Image]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the tenant whose collections the caller sees."""

    tenant: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a key may do: calls in a calendar month (UTC) and in a second; None is no limit."""

    name: str
    monthly: int | None
    per_second: int | None
    active: bool


@dataclass(frozen=True, slots=True)
class Quota:
    """Where a caller stands with the limit that counts: calls allowed, calls left, seconds until all are back."""

    limit: int
    remaining: int
    reset_s: int


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that was counted: who makes it, and where that leaves the caller; no quota on an unlimited plan."""

    caller: Caller
    quota: Quota | None


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What a caller has used: the plan, the calls of this month (UTC) and of each of the last 30 days, today last."""

    plan: Plan | None
    month: date
    in_month: int
    days: list[tuple[date, int]]


class ServiceError(Exception):
    """The service cannot do what was asked; the message says why, in words for the user."""


class InvalidInput(ServiceError):
    """A value in the request is not what the call takes."""


class CollectionNotFound(ServiceError):
    """The tenant has no collection of that name."""


class ImageNotFound(ServiceError):
    """The collection holds no image with that id."""


class CollectionExists(ServiceError):
    """The tenant already has a collection of that name."""


class KeyMissing(ServiceError):
    """The call needs an API key and none was sent."""


class KeyUnknown(ServiceError):
    """The API key is unknown or was revoked."""


class PlanRequired(ServiceError):
    """The API key has no active plan, and the call needs one."""


class LimitReached(ServiceError):
    """The caller has used up what its plan allows; `quota` says when there is more."""

    def __init__(self, message: str, quota: Quota) -> None:
        super().__init__(message)
        self.quota = quota


class RateLimited(LimitReached):
    """The plan's calls of this second are used up."""


class QuotaExceeded(LimitReached):
    """The plan's calls of this month are used up."""


class DecodeTimeout(ServiceError):
    """Decoding the image took longer than the limit allows."""


class Busy(ServiceError):
    """Too much work waits already."""


class NotReady(ServiceError):
    """The service cannot answer from a complete index now."""
