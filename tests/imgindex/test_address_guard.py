"""The address guard: no URL, name or redirect makes the service open a socket to an inner address.

No test here has a way out, even where the guard fails: `Network` replaces name lookup and connect for the
whole process, notes every attempt, and lets only addresses on its short list through - to a stub on the
loopback interface. So each test asserts at the socket what was reached, not only what was raised.
"""
# ruff: noqa: RUF001 - characters that look like others are what is tested

import contextlib
import errno
import re
import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgindex.intake import FetchFailed, FetchPolicy, FetchRefused, IntakeError, from_url, parse_allow
from imgindex.intake.addresses import SPECIAL_IPV4, SPECIAL_IPV6, is_public
from tests.image_server import ImageServer, Request, answer

PUBLIC = "93.184.216.34"
PUBLIC_IPV6 = "2606:2800:220:1:248:1893:25c8:1946"
POLICY = FetchPolicy(deadline_s=3.0)
HOSTILE_URLS = Path(__file__).parents[3] / "shared" / "hostile" / "ssrf_urls.txt"


class Network:
    """A resolver and a connect of the test's own; the real ones are never asked for a name or an address.

    `names` maps a host to its answers, one list of addresses for each lookup, the last of which stays. `stub`
    is where connections to the addresses in `reachable` go, all others are refused.
    """

    def __init__(self, stub: ImageServer) -> None:
        self.stub = stub
        self.stub.routes = {"/a.png": answer(200, b"picture")}
        self.names: dict[str, list[list[str]]] = {}
        self.reachable = {PUBLIC, PUBLIC_IPV6}
        self.lookups: Counter[str] = Counter()
        self.connected: list[tuple[str, int]] = []

    def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        self.lookups[host] += 1
        answers = self.names.get(host, [[]])
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (families[ip_address(address).version], socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    def connect(self, connection: socket.socket, address: Any) -> None:
        self.connected.append((address[0], address[1]))
        if address[0] not in self.reachable:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        inner = "::ffff:127.0.0.1" if connection.family == socket.AF_INET6 else "127.0.0.1"
        REAL_CONNECT(connection, (inner, self.stub.port))

    def opened(self, ports: frozenset[int] = POLICY.ports) -> list[tuple[str, int]]:
        """The attempts that a guard must never let happen."""
        return [
            (address, port)
            for address, port in self.connected
            if port not in ports or not is_public(ip_address(address))
        ]


REAL_CONNECT = socket.socket.connect


@pytest.fixture(scope="module")
def stub() -> Iterator[ImageServer]:
    with ImageServer() as stub:
        yield stub


@pytest.fixture
def network(stub: ImageServer, monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network(stub)

    def blocked(*_: Any, **__: Any) -> Any:
        raise AssertionError("a test of the address guard reached for the network")

    def connect(connection: socket.socket, address: Any) -> None:
        network.connect(connection, address)

    monkeypatch.setattr(socket, "getaddrinfo", network.getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", blocked)
    monkeypatch.setattr(socket.socket, "sendto", blocked)
    for name in ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"):
        monkeypatch.setattr(socket, name, blocked)
    return network


# The table of addresses


words = str.split  # shorter to read than one string a line

SPECIAL_ADDRESSES = words("""
    0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255
    127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255
    172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.9 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.255
    192.31.196.0 192.31.196.255 192.52.193.0 192.52.193.255 192.88.99.0 192.88.99.255 192.168.0.0
    192.168.255.255 192.175.48.0 192.175.48.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255
    203.0.113.0 203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.254 255.255.255.255
    :: ::1 ::2 ::7f00:1 ::a9fe:a9fe ::5db8:d822 ::ffff:127.0.0.1 ::ffff:169.254.169.254
    ::ffff:93.184.216.34 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::a00:1
    64:ff9b::a83f:8110 64:ff9b::ffff:ffff 64:ff9b:0:0:0:1:7f00:1 64:ff9b:1:: 64:ff9b:1::5db8:d822
    64:ff9b:1:7f00:0:100:: 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 100:: 100::ffff:ffff:ffff:ffff
    100:0:0:1::1 200::1 1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2001:: 2001:0:4136:e378:8000:63bf:80ff:fffe
    2001:0:4136:e378:8000:63bf:a247:27dd 2001:1::1 2001:2::1 2001:4:112::1 2001:10::1 2001:20::1
    2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: 2001:db8::1337 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
    2002:: 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:5db8:d822::1 2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    2620:4f:8000:: 2620:4f:8000:ffff:ffff:ffff:ffff:ffff 3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff
    4000:: 5f00::1 fc00:: fd00:ec2::254 fd20:ce::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe80::1
    fe80::200:5efe:7f00:1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0::1
    feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ff00:: ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    2606:2800:220:1:0:5efe:7f00:1 2606:2800:220:1:200:5efe:a9fe:a9fe 2606:2800:220:1:0:5efe:10.0.0.1
""")

PUBLIC_ADDRESSES = words("""
    1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0
    126.255.255.255 128.0.0.0 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255
    172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 192.167.255.255 192.169.0.0
    198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255
    2000:: 2001:200:: 2001:4860:4860::8888 2001:db7:ffff::1 2001:db9:: 2003:: 2606:4700::1111
    2620:4f:7fff::1 2620:4f:8001:: 2a00:1450::1 3ffe:ffff::1 64:ff9b::5db8:d822 64:ff9b::808:808
    2606:2800:220:1:0:5efe:5db8:d822
""")


@pytest.mark.parametrize("text", SPECIAL_ADDRESSES)
def test_special_addresses_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(ip_address(text))


def test_the_table_holds_whole_networks_that_do_not_overlap() -> None:
    for table in (SPECIAL_IPV4, SPECIAL_IPV6):
        for lower, upper in pairwise(sorted(table)):
            assert lower.broadcast_address < upper.network_address


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_as_public_as_its_embeddings(number: int) -> None:
    inner = IPv4Address(number)
    assert is_public(IPv6Address((0x64FF9B << 96) | number)) == is_public(inner)
    assert is_public(IPv6Address((0x26062800 << 96) | (0x5EFE << 32) | number)) == is_public(inner)
    for prefix in (0, 0xFFFF << 32, 0x2002 << 112 | number << 80, 0x20010000 << 96, 0xFE80 << 112):
        assert not is_public(IPv6Address(prefix | number))


@settings(max_examples=300)
@given(st.ip_addresses())
def test_what_python_calls_private_is_not_public(address: IPv4Address | IPv6Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_unspecified:
        assert not is_public(address) or int(address) >> 32 == 0x64FF9B << 64


# URLs that are refused before a name is looked up or a socket opened


REFUSED_URLS = [
    # addresses as they are, and as IPv6 carries them
    *[f"http://{text}/" for text in SPECIAL_ADDRESSES if ":" not in text],
    *[f"http://[{text}]/" for text in SPECIAL_ADDRESSES if ":" in text],
    "https://127.0.0.1/",
    "HTTP://127.0.0.1/",
    "http://127.0.0.1:443/",
    # numbers that only some resolvers take for an address
    "http://0x7f000001/",
    "http://0X7F.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0o177.0.0.1/",
    "http://2130706433/",
    "http://2852039166/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.000.000.001/",
    "http://383.256.256.257/",
    "http://4462739457/",
    "http://0x.0x.0/",
    "http://0/",
    "http://127.0.0.1./",
    "http://93.184.216.34./",
    "http://093.184.216.34/",
    "http://93.184.55330/",
    "http://1.2.3.4.5/",
    "http://example.0x7f/",
    # names without a domain
    "http://localhost/",
    "http://localhost./",
    "http://kubernetes/",
    "http://instance-data/",
    # characters that fold to others
    "http://１２７.０.０.１/",
    "http://127．0．0．1/",
    "http://127。0。0。1/",
    "http://¹²⁷.⁰.⁰.¹/",
    "http://①②⑦.⓪.⓪.①/",
    "http://ⓛocalhost.example/",
    "http://locaⅼhost.example/",
    "http://\u212aubernetes.example/",
    "http://exa\u200bmple.com/",
    "http://exa\u00admple.com/",
    "http://a.example\u2024com/",
    "http://😀.example/",
    "http://\ud800.example/",
    "http://xn--a-.example/",
    # two readings of where the host ends
    "http://public.example@127.0.0.1/",
    "http://127.0.0.1@public.example/",
    "http://user:secret@public.example/",
    "http://:@public.example/",
    "http://@public.example/",
    "http://127.0.0.1:80\\@public.example/",
    "http://public.example\\@127.0.0.1/",
    "http://public.example:80\\@@127.0.0.1:80/",
    "http://public.example:80:80/",
    "http://public.example%2f@127.0.0.1/",
    "http://127.0.0.1%00.public.example/",
    "http://%31%32%37%2e%30%2e%30%2e%31/",
    "http://public%2eexample/",
    "http:/\\127.0.0.1/",
    "http:\\\\127.0.0.1/",
    "http:/127.0.0.1/",
    "http:127.0.0.1/",
    "http:///127.0.0.1/",
    "http:////127.0.0.1/",
    "//127.0.0.1/",
    "127.0.0.1/",
    "public.example/a.png",
    "http://",
    "http://?",
    "http://#@public.example/",
    "http://:80/",
    "http://./",
    "http://../",
    "http://.public.example/",
    "http://public..example/",
    "http://public.example../",
    "http://-public.example/",
    "http://public-.example/",
    "http://pub,lic.example/",
    "http://pub;lic.example/",
    "http://public.example;127.0.0.1/",
    "http://pub*lic.example/",
    "http://pub[lic].example/",
    "http://[127.0.0.1]/",
    "http://[public.example]/",
    "http://[::1/",
    "http://::1/",
    "http://[::1]x/",
    "http://[::1]@public.example/",
    "http://x[::1]/",
    "http://[[::1]]/",
    "http://[fe80::1%25eth0]/",
    "http://[2606:2800:220:1::1%25eth0]/",
    "http://[2606:2800:220:1::1%eth0]/",
    "http://[v1.a]/",
    # blanks and characters that parsers strip
    " http://public.example/",
    "\thttp://public.example/",
    "http://public.example/ ",
    "http://public.example/\n",
    "http://public.example\t/",
    "ht\ntp://public.example/",
    "http://pub\nlic.example/",
    "http://public.example\r\nHost: 127.0.0.1/",
    "http://public.example/a b.png",
    "http://public.example/\x00",
    "http://public.example/\x7f",
    "http://public.example/\u00a0",
    "http://public.example/\u2028",
    "\ufeffhttp://public.example/",
    # schemes
    "",
    "file:///etc/passwd",
    "file://public.example/a.png",
    "ftp://public.example/a.png",
    "gopher://public.example/",
    "data:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    "jar:http://public.example!/",
    "httpx://public.example/",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "ws://public.example/",
    "0://public.example:80;http://public.example:80/",
    # ports
    "http://public.example:0/",
    "http://public.example:22/",
    "http://public.example:8080/",
    "http://public.example:65535/",
    "http://public.example:65616/",
    "http://public.example:99999/",
    "http://public.example:-80/",
    "http://public.example:+80/",
    "http://public.example:080/",
    "http://public.example:/",
    "http://public.example: 80/",
    "http://public.example:８０/",
    "http://public.example:80a/",
    "http://93.184.216.34:6379/",
    "http://[2606:2800:220:1:248:1893:25c8:1946]:2375/",
    # length
    "http://public.example/" + "a" * 8192,
    "http://" + "a" * 64 + ".example/",
    "http://" + "a." * 127 + "example/",
]


@pytest.mark.parametrize("url", REFUSED_URLS, ids=lambda url: ascii(url[:60]))
def test_odd_and_inner_urls_are_refused(network: Network, url: str) -> None:
    network.names = {"public.example": [[PUBLIC]]}
    with pytest.raises(FetchRefused):
        from_url(url, policy=POLICY)
    assert network.connected == []
    assert not network.lookups


@pytest.mark.parametrize("userinfo", ["user", "user:secret", ":", "", "public.example:80"])
def test_credentials_are_named_as_the_reason_and_not_repeated(network: Network, userinfo: str) -> None:
    with pytest.raises(FetchRefused, match=r"^The URL contains a user name or password") as caught:
        from_url(f"http://{userinfo}@public.example/", policy=POLICY)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", REFUSED_URLS, ids=lambda url: ascii(url[:60]))
def test_a_redirect_to_them_is_refused_or_stays_on_its_host(network: Network, url: str) -> None:
    network.names = {"public.example": [[PUBLIC]]}
    network.stub.routes = {"/r": answer(302, Location=url.encode("utf-8", "replace").decode())}
    with pytest.raises(IntakeError):
        from_url("http://public.example/r", policy=POLICY)
    # A relative reference leads back to the host that sent it; nothing else was reached.
    assert set(network.connected) == {(PUBLIC, 80)}
    assert network.opened() == []


# Names


@pytest.mark.parametrize("address", SPECIAL_ADDRESSES)
def test_names_of_special_addresses_are_refused(network: Network, address: str) -> None:
    network.names = {"inner.example": [[address]]}
    with pytest.raises(FetchRefused, match=r"^inner\.example does not have a public address\.$"):
        from_url("http://inner.example/a.png", policy=POLICY)
    assert network.connected == []


@pytest.mark.parametrize("addresses", [[PUBLIC, "127.0.0.1"], ["fd00::1", PUBLIC], [PUBLIC] * 9 + ["10.0.0.1"]])
def test_one_inner_address_among_public_ones_is_refused(network: Network, addresses: list[str]) -> None:
    network.names = {"mixed.example": [addresses]}
    with pytest.raises(FetchRefused):
        from_url("http://mixed.example/a.png", policy=POLICY)
    assert network.connected == []


def test_a_scoped_address_in_an_answer_is_refused(network: Network) -> None:
    network.names = {"scoped.example": [["fe80::1%eth0"]]}
    with pytest.raises(FetchRefused):
        from_url("http://scoped.example/", policy=POLICY)
    assert network.connected == []


def test_a_name_is_looked_up_once_and_its_checked_address_connected(network: Network) -> None:
    network.names = {"rebind.example": [[PUBLIC], ["127.0.0.1"]]}
    assert from_url("http://rebind.example/a.png", policy=POLICY) == b"picture"
    assert network.lookups == {"rebind.example": 1}
    assert network.connected == [(PUBLIC, 80)]


def test_further_attempts_use_the_first_lookup(network: Network) -> None:
    network.names = {"rebind.example": [["8.8.8.8"], ["127.0.0.1"]]}
    with pytest.raises(FetchFailed):
        from_url("http://rebind.example/a.png", policy=POLICY)
    assert network.connected == [("8.8.8.8", 80)] * 3


def test_a_name_that_changes_between_hops_is_checked_again(network: Network) -> None:
    network.names = {"rebind.example": [[PUBLIC], ["127.0.0.1"]]}
    network.stub.routes = {"/r": answer(302, Location="/again")}
    with pytest.raises(FetchRefused, match="does not have a public address"):
        from_url("http://rebind.example/r", policy=POLICY)
    assert network.connected == [(PUBLIC, 80)]


# What gets through


@pytest.mark.parametrize(
    ("url", "host", "reached"),
    [
        ("http://public.example/a.png", "public.example", (PUBLIC, 80)),
        ("http://PUBLIC.Example:80/a.png", "public.example", (PUBLIC, 80)),
        ("http://public.example:443/a.png", "public.example:443", (PUBLIC, 443)),
        ("http://six.example/a.png", "six.example", (PUBLIC_IPV6, 80)),
        (f"http://{PUBLIC}/a.png", PUBLIC, (PUBLIC, 80)),
        (f"http://[{PUBLIC_IPV6.upper()}]/a.png", f"[{PUBLIC_IPV6}]", (PUBLIC_IPV6, 80)),
        ("http://bücher.example/a.png", "xn--bcher-kva.example", (PUBLIC, 80)),
        ("http://a_b.public.example/a.png", "a_b.public.example", (PUBLIC, 80)),
        ("http://public.example/a.png#@127.0.0.1/", "public.example", (PUBLIC, 80)),
        ("http://public.example/x/../a.png?u=http://127.0.0.1/@", "public.example", (PUBLIC, 80)),
    ],
)
def test_public_urls_reach_the_checked_address_under_their_own_name(
    network: Network, url: str, host: str, reached: tuple[str, int]
) -> None:
    names = ("public.example", "a_b.public.example", "xn--bcher-kva.example")
    network.names = {name: [[PUBLIC]] for name in names} | {"six.example": [[PUBLIC_IPV6]]}
    assert from_url(url, policy=POLICY) == b"picture"
    assert network.connected == [reached]
    assert network.stub.seen[-1].headers["host"] == host


def test_the_next_address_is_tried_when_one_is_down(network: Network) -> None:
    network.names = {"two.example": [["2a00:1450::1", PUBLIC]]}
    assert from_url("http://two.example/a.png", policy=POLICY) == b"picture"
    assert network.connected == [("2a00:1450::1", 80), (PUBLIC, 80)]


def test_few_of_many_addresses_are_tried(network: Network) -> None:
    network.names = {"many.example": [[f"8.8.8.{number}" for number in range(200)]]}
    with pytest.raises(FetchFailed):
        from_url("http://many.example/a.png", policy=POLICY)
    assert len(network.connected) == 12


def test_a_redirect_to_another_public_host_carries_its_own_name(network: Network) -> None:
    network.names = {"one.example": [[PUBLIC]], "two.example": [[PUBLIC_IPV6]]}
    network.stub.routes = {
        "/r": answer(302, Location="http://two.example/b"),
        "/b": answer(200, b"there"),
    }
    assert from_url("http://one.example/r", policy=POLICY) == b"there"
    assert [request.headers["host"] for request in network.stub.seen[-2:]] == ["one.example", "two.example"]
    assert network.connected == [(PUBLIC, 80), (PUBLIC_IPV6, 80)]


def test_allowed_pairs_pass_by_the_host_in_the_url_and_the_exact_port(network: Network) -> None:
    network.names = {"images.local": [["10.0.0.5"]], "other.local": [["10.0.0.5"]], "db": [["10.0.0.6"]]}
    network.reachable |= {"10.0.0.5", "10.0.0.6", "::1"}
    policy = FetchPolicy(allow=parse_allow("images.local:8001,db:80,[::1]:81"))
    for url in ("http://images.local:8001/a.png", "http://DB/a.png", "http://[0::1]:81/a.png"):
        assert from_url(url, policy=policy) == b"picture"
    assert network.connected == [("10.0.0.5", 8001), ("10.0.0.6", 80), ("::1", 81)]
    for url in (
        "http://images.local/a.png",
        "http://images.local:8002/a.png",
        "http://other.local:8001/a.png",
        "http://10.0.0.5:8001/a.png",
        "http://db:81/a.png",
        "http://[::1]/a.png",
    ):
        with pytest.raises(FetchRefused):
            from_url(url, policy=policy)
    assert len(network.connected) == 3


def test_a_redirect_from_outside_may_lead_to_an_allowed_pair_only(network: Network) -> None:
    network.names = {"public.example": [[PUBLIC]], "images.local": [["10.0.0.5"]]}
    network.reachable |= {"10.0.0.5"}
    network.stub.routes |= {
        "/to-8001": answer(302, Location="http://images.local:8001/a.png"),
        "/to-8002": answer(302, Location="http://images.local:8002/a.png"),
    }
    policy = FetchPolicy(allow=parse_allow("images.local:8001"))
    assert from_url("http://public.example/to-8001", policy=policy) == b"picture"
    with pytest.raises(FetchRefused):
        from_url("http://public.example/to-8002", policy=policy)
    assert network.connected == [(PUBLIC, 80), ("10.0.0.5", 8001), (PUBLIC, 80)]


def test_ports_are_the_policys(network: Network) -> None:
    network.names = {"public.example": [[PUBLIC]]}
    policy = FetchPolicy(ports=frozenset({8080}))
    assert from_url("http://public.example:8080/a.png", policy=policy) == b"picture"
    with pytest.raises(FetchRefused, match="names port 80,"):
        from_url("http://public.example/a.png", policy=policy)


# Anything at all


PIECES = st.sampled_from(
    [
        *words("http https : / // \\ @ # ? % [ ] . :: public.example 127.0.0.1 [::1] 169.254.169.254"),
        *words("0x7f 80 22 localhost １ 。 %00 %2f ü"),
        *("\t", "\n", " "),
    ]
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.lists(PIECES).map("".join), st.lists(PIECES).map(lambda p: "http://" + "".join(p))))
def test_no_text_opens_a_socket_to_an_inner_address(network: Network, text: str) -> None:
    network.names = {"public.example": [[PUBLIC]], "localhost": [["127.0.0.1"]]}
    with contextlib.suppress(IntakeError):
        assert from_url(text, policy=POLICY) == b"picture"
    assert network.opened() == []


# The collection of hostile URLs, where it is at hand


def hostile_urls() -> Iterator[tuple[str, str, str]]:
    """Class, URL and instruction of each line; the collection writes CR, LF and NUL as escapes."""
    group = ""
    for line in HOSTILE_URLS.read_text(encoding="utf-8").splitlines():
        if line.startswith("# CLASS "):
            group = line.removeprefix("# CLASS ").partition(":")[0]
        elif line and not line.startswith("#"):
            url = line.replace(r"\r", "\r").replace(r"\n", "\n").replace(r"\x00", "\0")
            url, mark, instruction = re.fullmatch(r"(?s)(.*?)(?:#(RESOLVE|REDIRECT|REFRESH)=(.*))?", url).groups()
            yield group, url, f"{mark} {instruction}"


def follow(instruction: str, network: Network, url: str) -> None:
    """Fill the resolver and set the stub's answer as an instruction of the collection says."""
    mark, _, text = instruction.partition(" ")
    behaviour = answer(404)
    if mark == "RESOLVE":
        lookups = [
            network.names.get(lookup.removeprefix("CNAME "), [re.findall(r"[0-9a-f]*[.:][0-9a-f.:]+", lookup)])[0]
            for lookup in text.split("|")
        ]
        network.names[urlsplit(url).hostname or ""] = lookups
    elif mark == "REFRESH":
        behaviour = answer(200, f'<meta http-equiv="refresh" content="{text}">'.encode(), Refresh=text)
    elif text.startswith("401"):
        behaviour = answer(401, WWW_Authenticate="Basic realm=x")
    elif "1..50" in text:
        hops = iter(range(1, 51))

        def behaviour(connection: socket.socket, request: Request) -> None:
            answer(302, Location=f"http://allowed.example/{next(hops)}")(connection, request)

    elif mark == "REDIRECT":
        status, _, location = text.partition("=")
        behaviour = answer(int(status), Location=location)
    network.stub.routes = {"*": behaviour}


@pytest.mark.skipif(not HOSTILE_URLS.exists(), reason="the collection ../shared/hostile is not here")
def test_no_url_of_the_collection_opens_a_socket_to_an_inner_address(network: Network) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    wrong = []
    for group, url, instruction in hostile_urls():
        network.names = {
            # Names that a resolver inside a cloud or a container answers, and those of rebinding services.
            "allowed.example": [[PUBLIC]],
            "example.com": [[PUBLIC]],
            "rebind.example": [[PUBLIC], ["127.0.0.1"]],
            "metadata.google.internal": [["169.254.169.254"]],
            "169.254.169.254.nip.io": [["169.254.169.254"]],
            "kubernetes.default.svc": [["10.96.0.1"]],
            "kubernetes.default": [["10.96.0.1"]],
            "localhost.localdomain": [["127.0.0.1"]],
            "metadata.packet.net": [["192.168.0.1"]],
            "make-1.2.3.4-rebind-169.254-169.254-rr.1u.ms": [["1.2.3.4"], ["169.254.169.254"]],
            "a.8.8.8.8.1time.127.0.0.1.forever.rebind.network": [["8.8.8.8"], ["127.0.0.1"]],
            "localhost": [["127.0.0.1"]],
        }
        network.connected.clear()
        network.lookups.clear()
        follow(instruction, network, url)
        try:
            from_url(url, policy=POLICY)
            outcome = "fetched"
        except IntakeError as exc:
            outcome = type(exc).__name__
        outcomes[group, outcome] += 1
        if network.opened() or (outcome == "fetched" and "REFRESH" not in instruction):
            wrong.append((outcome, url[:100], network.opened()))
        # The one hop that leads back to the same name looks it up again; nothing else may.
        assert max(network.lookups.values(), default=0) <= 6
    print(*sorted(outcomes.items()), sep="\n")
    assert wrong == []
    assert sum(outcomes.values()) > 300
