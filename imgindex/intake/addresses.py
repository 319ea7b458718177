"""Which IP addresses are public: the table that every outgoing connection is checked against.

`ipaddress.is_global` changes between Python versions and lets through addresses that reach the inside of a
network (168.63.129.16, fec0::/10, IPv4 inside IPv6), so the ranges stand here.
Source: the IANA special-purpose address registries for IPv4 and IPv6, and the clouds' own documents.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address

SPECIAL_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT, and the metadata service of Alibaba Cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the wire server of Azure, a public address in form only
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocol assignments, and the metadata service of Oracle Cloud
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112, answered by whoever is nearest
        "192.52.193.0/24",  # automatic multicast tunneling
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

GLOBAL_UNICAST_IPV6 = IPv6Network("2000::/3")

SPECIAL_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, ORCHID, AMT, AS112
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address to relays that have been withdrawn
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)

NAT64 = IPv6Network("64:ff9b::/96")
ISATAP_INTERFACES = (0x0000_5EFE, 0x0200_5EFE)


def is_public(address: IPAddress) -> bool:
    """Whether the address lies on the public internet, whichever way an IPv4 address is wrapped in it.

    Of IPv6 only global unicast (2000::/3) is public. That alone refuses IPv4-mapped (::ffff:0:0/96),
    IPv4-compatible (::/96) and translated addresses, NAT64 with a local prefix (64:ff9b:1::/48), link-local,
    site-local, unique local and multicast. One prefix outside of it is public if its IPv4 address is: the
    well-known NAT64 prefix, behind which hosts without IPv4 see the whole IPv4 internet. The IPv4 address in
    an ISATAP interface id is checked in the same way.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in SPECIAL_IPV4)
    inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in NAT64:
        return is_public(inner)
    if address not in GLOBAL_UNICAST_IPV6 or any(address in network for network in SPECIAL_IPV6):
        return False
    is_isatap = (int(address) >> 32) & 0xFFFF_FFFF in ISATAP_INTERFACES
    return not is_isatap or is_public(inner)
