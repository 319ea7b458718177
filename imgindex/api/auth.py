"""Where a key stands in a request."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from imgindex.services import access
from imgindex.types import Caller


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
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "Also `Authorization: Token K` or `x-api-key: K`."}


class KeyAuthentication(BaseAuthentication):
    """`request.auth` is the Caller whose key the request carries."""

    def authenticate(self, request: Request) -> tuple[Any, Caller]:
        return None, access.caller(key=key_of(request))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
