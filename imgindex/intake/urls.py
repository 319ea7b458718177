"""A URL read strictly, once: the parts that are checked here are the parts that are connected to.

Two parsers that read one odd URL in two ways are the oldest way around an address check. So whatever can be
read in two ways is refused, never mended: blanks and invisible characters, backslashes, credentials, percent
signs in a host, numbers that only some resolvers take for an address (0x7f.1, 017700000001), digits and dots
that Unicode folds to ASCII. What is left is put together again from its parts (`Target.url`).
"""

import re
import string
import unicodedata
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

import idna

from imgindex.intake.addresses import IPAddress
from imgindex.intake.errors import FetchRefused

MAX_URL_LENGTH = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}

Allowed = frozenset[tuple[str, int]]

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@%]+)(?::([1-9][0-9]{0,4}))?", re.ASCII | re.IGNORECASE)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """One place to fetch from. `host` is a lower-case ASCII name or an IP address in its shortest form."""

    scheme: str
    host: str
    port: int
    rest: str
    address: IPAddress | None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.rest}"


def parse_url(url: str, *, ports: frozenset[int], allow: Allowed) -> Target:
    """Read a URL. Raises `FetchRefused` for all that is not plain http or https to a permitted port."""
    if len(url) > MAX_URL_LENGTH:
        raise FetchRefused(f"The URL is longer than {MAX_URL_LENGTH} characters.")
    if not url.isprintable() or " " in url or "\\" in url:
        raise FetchRefused("The URL contains a blank, a backslash or an invisible character.")
    scheme, separator, after = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise FetchRefused("The URL must begin with http:// or https://.")
    authority, rest = _split_authority(after)
    if "@" in authority:
        raise FetchRefused("The URL contains a user name or password; only URLs without are fetched.")
    host, port, address = _parse_authority(authority, default_port=DEFAULT_PORTS[scheme])
    if (host, port) not in allow:
        if port not in ports:
            raise FetchRefused(f"The URL names port {port}, which this service does not connect to.")
        if address is None and "." not in host:
            raise FetchRefused(f"{host} is not a public host name.")
    return Target(scheme=scheme, host=host, port=port, rest=rest, address=address)


def parse_redirect(location: str, *, base: Target, ports: frozenset[int], allow: Allowed) -> Target:
    """Read the `Location` of a redirect, relative to its base, as strictly as a URL given by a user."""
    try:
        # http.client decodes header bytes as Latin-1; servers that do not percent-encode send UTF-8.
        absolute = urljoin(base.url, location.encode("latin-1").decode())
    except ValueError as exc:
        raise FetchRefused("The server redirects to a URL that is not valid.") from exc
    return parse_url(absolute, ports=ports, allow=allow)


def parse_allow(text: str) -> Allowed:
    """Read FETCH_ALLOW, a comma-separated list of host:port. Raises a ValueError that names the fix."""
    pairs = set()
    for entry in filter(None, map(str.strip, text.split(","))):
        try:
            host, port, _ = _parse_authority(entry, default_port=0)
        except FetchRefused as exc:
            raise ValueError(_allow_message(entry)) from exc
        if port == 0:
            raise ValueError(_allow_message(entry))
        pairs.add((host, port))
    return frozenset(pairs)


def _allow_message(entry: str) -> str:
    return f"FETCH_ALLOW: {entry!r} is not host:port; write it like images.local:8001, 10.0.0.5:80 or [::1]:8001"


def _split_authority(after: str) -> tuple[str, str]:
    end = re.search(r"[/?#]", after)
    start = end.start() if end else len(after)
    rest = after[start:].partition("#")[0]
    return after[:start], quote(rest if rest.startswith("/") else f"/{rest}", safe=string.punctuation)


def _parse_authority(authority: str, *, default_port: int) -> tuple[str, int, IPAddress | None]:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise FetchRefused("The URL has no valid host and port.")
    port = int(match[2] or default_port)
    if port > 65535:
        raise FetchRefused("The URL has no valid port.")
    host, address = _parse_host(match[1])
    return host, port, address


def _parse_host(text: str) -> tuple[str, IPAddress | None]:
    if text.startswith("["):
        try:
            inside = IPv6Address(text[1:-1])
        except AddressValueError as exc:
            raise FetchRefused("The URL names an IPv6 address that is not valid.") from exc
        return str(inside), inside
    # Full-width, superscript and circled characters fold to ASCII in some parsers and not in others. Before
    # lower(), which folds some of them itself (the Kelvin sign to k).
    if unicodedata.normalize("NFKC", text) != text:
        raise FetchRefused("The URL names a host with characters that can be read in two ways.")
    labels = [_parse_label(label) for label in text.lower().split(".")]
    host = ".".join(labels)
    if len(host) > 253:
        raise FetchRefused("The URL names a host that is too long.")
    if not _NUMBER.fullmatch(labels[-1]):
        return host, None
    # A name whose last label is a number is an address to some resolvers: it must be one in the plain form.
    try:
        address = IPv4Address(host)
    except AddressValueError as exc:
        raise FetchRefused("The URL names an IPv4 address that is not in the form 1.2.3.4.") from exc
    return host, address


def _parse_label(label: str) -> str:
    if not label.isascii():
        try:
            label = idna.alabel(label).decode()
        except UnicodeError as exc:
            raise FetchRefused("The URL names a host that is not valid.") from exc
    if not _LABEL.fullmatch(label):
        raise FetchRefused("The URL names a host that is not valid.")
    return label
