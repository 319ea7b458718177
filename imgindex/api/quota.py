"""The headers that tell a caller how much is left: `RateLimit-Limit`, `-Remaining`, `-Reset`, and `Retry-After`.

They are set by a middleware, so that answers of every form carry them, errors of every document's own form included.
They speak of the month where the plan limits it, else of the second; when a call is refused, of the limit that was
reached. `RateLimit-Reset` and `Retry-After` are whole seconds, at least 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from imgindex.types import Quota

_ATTRIBUTE = "imgindex_quota"


@dataclass(frozen=True, slots=True)
class _Left:
    quota: Quota
    refused: bool


def leave(request: Request, quota: Quota | None, *, refused: bool = False) -> None:
    """Note where a call leaves its caller; None leaves no headers."""
    if quota is not None:
        setattr(request._request, _ATTRIBUTE, _Left(quota, refused))


def middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Set the headers on answers to metered calls."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        left: _Left | None = getattr(request, _ATTRIBUTE, None)
        if left is not None:
            response["RateLimit-Limit"] = str(left.quota.limit)
            response["RateLimit-Remaining"] = str(left.quota.remaining)
            response["RateLimit-Reset"] = str(left.quota.reset_s)
            if left.refused:
                response["Retry-After"] = str(left.quota.reset_s)
        return response

    return answer
