"""Where a key stands in a request, and which calls count against its plan.

A view says by its `authentication_classes` what it asks for: `KeyAuthentication` (the default) opens without counting,
`KeyRequired` and `KeyOrAnonymous` count each request once, before anything else of it is looked at, whatever becomes
of it afterwards. Where that leaves the caller goes into the answer's headers: see quota.py.
"""

from abc import ABC, abstractmethod
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from imgindex.api import quota
from imgindex.api.client import address_of
from imgindex.services import access
from imgindex.types import Admission, Caller, LimitReached


def key_of(request: Request) -> str | None:
    """The key in `Authorization: Token|Bearer K`, `x-api-key` or `x-oanor-key`; None where there is none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() in {"token", "bearer"}:
        return key.strip()
    return request.headers.get("x-api-key") or request.headers.get("x-oanor-key")


def caller_of(request: Request) -> Caller:
    """Who asks, as KeyAuthentication found."""
    caller: Any = request.auth
    assert isinstance(caller, Caller)
    return caller


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its registry has no types
    """How the documentation describes KeyAuthentication."""

    target_class = "imgindex.api.auth.KeyAuthentication"
    match_subclasses = True
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "Also `Authorization: Token K` or `x-api-key: K`."}


class KeyAuthentication(BaseAuthentication):
    """`request.auth` is the Caller whose key the request carries. Nothing is counted."""

    def authenticate(self, request: Request) -> tuple[Any, Caller]:
        return None, access.caller(key=key_of(request))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class _Metered(KeyAuthentication, ABC):
    def authenticate(self, request: Request) -> tuple[Any, Caller]:
        try:
            admission = self._admit(request)
        except LimitReached as exc:
            quota.leave(request, exc.quota, refused=True)
            raise
        quota.leave(request, admission.quota)
        return None, admission.caller

    @abstractmethod
    def _admit(self, request: Request) -> Admission:
        """Count the call, or raise."""


class KeyRequired(_Metered):
    """For `/v1` and `/v2`: a key, even while OPEN_ACCESS is on; the call counts against its plan.

    Raises KeyMissing, KeyUnknown (401), PlanRequired (402), RateLimited and QuotaExceeded (429).
    """

    def _admit(self, request: Request) -> Admission:
        return access.admit_key(key=key_of(request))


class KeyOrAnonymous(_Metered):
    """For the keyless documents: counts against the plan of a key that is sent, else against the plan `anonymous`.

    That one counts each client address by itself. While OPEN_ACCESS is off a key is needed. Raises what KeyRequired
    raises.
    """

    def _admit(self, request: Request) -> Admission:
        return access.admit(key=key_of(request), address=address_of(request))
