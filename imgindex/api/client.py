"""Which client a request comes from.

The peer of the connection is the client, unless TRUSTED_PROXIES names it as a proxy. Then the addresses in
`X-Forwarded-For` are walked from the right: each proxy appends the peer that it saw, so the first one that is no
trusted proxy is the client, and whatever that client wrote further left counts for nothing. Only where the proxy
sends no `X-Forwarded-For` does `X-Real-IP` count.

WSGI cannot tell `X_Forwarded_For` from `X-Forwarded-For`, and granian keeps whichever comes last. So a trusted proxy
must drop header names with an underscore, as nginx does unless told otherwise; docs/settings.md says so.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

Address = IPv4Address | IPv6Address

UNKNOWN = "unknown"
"""The client where the server tells no address."""


def address_of(request: Request | HttpRequest) -> str:
    """The address to count by: an IPv4 address, or of an IPv6 address its /64 network, which is one client's."""
    peer = _parsed(request.META.get("REMOTE_ADDR", ""))
    if peer is None:
        return UNKNOWN
    client = _forwarded(request, peer) if _is_trusted(peer) else peer
    return str(client) if client.version == 4 else str(ip_network((client, 64), strict=False))


def _forwarded(request: Request | HttpRequest, proxy: Address) -> Address:
    chain = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if not chain.strip():
        return _parsed(request.META.get("HTTP_X_REAL_IP", "")) or proxy
    for text in reversed(chain.split(",")):
        address = _parsed(text)
        if address is None:
            return proxy  # no proxy writes this: the last one that was trusted is all that is known
        if not _is_trusted(address):
            return address
        proxy = address
    return proxy


def _is_trusted(address: Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES)


def _parsed(text: str) -> Address | None:
    """The address in a text, which may carry a port or a zone; an IPv4 address inside an IPv6 one is that address."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.version == 6 and address.ipv4_mapped) or address
