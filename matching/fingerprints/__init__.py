"""Fingerprints: binary codes of how a picture looks, one small file each, and their registry."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from matching.fingerprints.ahash import AHash
from matching.fingerprints.base import Fingerprint, Pixels
from matching.fingerprints.dhash import DHash
from matching.fingerprints.pdq import PDQ
from matching.fingerprints.phash import PHash

__all__ = [
    "FINGERPRINTS",
    "PDQ_FINGERPRINT",
    "RECIPE_VERSION",
    "Fingerprint",
    "Pixels",
    "from_hex",
    "to_bits",
    "to_hex",
]

RECIPE_VERSION = 1
"""Raised when the same bytes may get other codes; stored codes of another version must be computed anew."""

PDQ_FINGERPRINT = PDQ()
"""The default search fingerprint, which also tells the quality."""

FINGERPRINTS: Mapping[str, Fingerprint] = MappingProxyType(
    {fingerprint.name: fingerprint for fingerprint in (PDQ_FINGERPRINT, PHash(), DHash(), AHash())}
)
"""Every fingerprint by its name."""


def to_hex(code: bytes) -> str:
    """A code as lower-case hex, two digits a byte."""
    return code.hex()


def to_bits(code: bytes) -> str:
    """A code as text of 0 and 1, eight a byte, the most significant first, as the documented `/v2` prints it."""
    return "".join(f"{byte:08b}" for byte in code)


def from_hex(name: str, text: str) -> bytes:
    """The code that `text` writes in hex, upper or lower case.

    Raises ValueError, with words for the user, when no fingerprint has this name or `text` is not its
    length in hex.
    """
    if name not in FINGERPRINTS:
        raise ValueError(f"there is no fingerprint {name!r}, only {', '.join(FINGERPRINTS)}")
    digits = FINGERPRINTS[name].bits // 4
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", text):
        raise ValueError(f"a {name} code is written in {digits} hex digits")
    return bytes.fromhex(text)
