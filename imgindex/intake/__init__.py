"""The ways an image comes in - a URL, base64 text, an upload - and the limits that each keeps to."""

from imgindex.intake.errors import (
    EmptyImage,
    FetchFailed,
    FetchRefused,
    FetchTimeout,
    IntakeError,
    InvalidBase64,
    TooManyBytes,
)
from imgindex.intake.fetch import FetchPolicy, from_url
from imgindex.intake.given import Chunked, Readable, from_base64, from_upload
from imgindex.intake.urls import parse_allow

__all__ = [
    "Chunked",
    "EmptyImage",
    "FetchFailed",
    "FetchPolicy",
    "FetchRefused",
    "FetchTimeout",
    "IntakeError",
    "InvalidBase64",
    "Readable",
    "TooManyBytes",
    "from_base64",
    "from_upload",
    "from_url",
    "parse_allow",
]
