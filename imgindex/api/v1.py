"""`/v1`: 001, the perceptual hash API (statements 6 to 13)."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from imgindex import intake
from imgindex.api import errors
from imgindex.api.auth import KeyRequired
from imgindex.api.rendering import FormBody, JSONBody, UrlEncodedBody
from imgindex.services import pictures
from imgindex.services.describe import FromBase64, FromUpload, FromUrl, Source
from imgindex.types import InvalidInput
from matching.fingerprints import to_hex

ALGORITHMS = ("ahash", "dhash", "phash")

# What became of a picture, in the document's statuses; every other bad input is a 400.
_STATUSES: dict[type[Exception], int] = {
    intake.FetchFailed: 502,
    intake.FetchTimeout: 502,
    intake.EmptyImage: 422,
}
_KEPT = {401, 402, 405, 422, 429, 500, 502, 503}


class _View(APIView):
    schema = None
    authentication_classes = (KeyRequired,)
    parser_classes = (JSONBody, FormBody, UrlEncodedBody)

    def get_exception_handler(self) -> Any:
        return _error


class Hash(_View):
    """Statements 6 and 7."""

    def get(self, request: Request) -> Response:
        given = _given(request)
        algorithm = given.get("algorithm", "all")
        if algorithm not in (*ALGORITHMS, "all"):
            raise InvalidInput(f"algorithm must be {', '.join(ALGORITHMS)} or all.")
        hashes = _hex(pictures.plain_hashes(source=_picture(request, given, "url", "image")))
        data = hashes if algorithm == "all" else {algorithm: hashes[algorithm]}
        return _envelope(data, "Perceptual hash of an image")

    post = get


class Compare(_View):
    """Statement 8."""

    def get(self, request: Request) -> Response:
        given = _given(request)
        first, second = (_picture(request, given, f"url{number}", f"image{number}") for number in (1, 2))
        found = pictures.compare(first=first, second=second)
        likenesses = {
            name: {"distance": item.distance, "similarity": _number(item.similarity)}
            for name, item in found.likenesses.items()
        }
        data = {
            "hashes": {"image1": _hex(found.first), "image2": _hex(found.second)},
            "comparison": likenesses,
            "likely_same": found.likely_same,
            "average_similarity": _number(found.average_similarity),
        }
        return _envelope(data, "Compare two images")

    post = get


class Meta(_View):
    """Statement 9."""

    def get(self, request: Request) -> Response:
        data = {
            "auth": "an API key in x-oanor-key, x-api-key or Authorization",
            "name": "Perceptual Image Hash API",
            "note": (
                "/v1/hash?url= or ?image= (base64) gives aHash, dHash and pHash of an image as 16 hex digits each, or "
                "one of them with &algorithm=ahash|dhash|phash. /v1/compare?url1=&url2= gives the Hamming distance and "
                f"the similarity in per cent by each, and likely_same from {settings.LIKELY_SAME_PERCENT} on average. "
                "Nothing is stored."
            ),
            "source": "imgindex, hashed on this machine",
            "endpoints": 3,
        }
        return _envelope(data, "Meta")


def _given(request: Request) -> dict[str, Any]:
    """The parameters by name, of the query and over it of the body; raises InvalidInput for a body of another kind."""
    body = request.data if request.method == "POST" else {}
    if not isinstance(body, dict):
        raise InvalidInput("The body must be a JSON object or a form.")
    given = _texts(request.query_params)
    given.update(_texts(body) if isinstance(body, QueryDict) else body)
    return given


def _texts(form: QueryDict) -> dict[str, Any]:
    # The plus of base64 means a blank in a form, and few clients escape it.
    return {name: str(text).replace(" ", "+") if name.startswith("image") else text for name, text in form.items()}


def _picture(request: Request, given: Mapping[str, Any], url: str, image: str) -> Source:
    """The picture under one of two names; raises InvalidInput unless it is exactly one."""
    # A part of a form may be the file itself.
    if image in request.FILES and not given.get(url):
        return FromUpload(request.FILES[image])
    texts = {name: given[name] for name in (url, image) if given.get(name)}
    if len(texts) != 1:
        raise InvalidInput(f"Give the picture as {url} or as {image} (base64), one of them.")
    ((name, text),) = texts.items()
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be text.")
    return FromUrl(text) if name == url else FromBase64(text)


def _hex(hashes: Mapping[str, bytes]) -> dict[str, str]:
    return {name: to_hex(hashes[name]) for name in ALGORITHMS}


def _number(percent: float) -> float:
    """Whole numbers are printed as integers."""
    return int(percent) if percent.is_integer() else percent


def _envelope(data: Any, message: str, *, status: int = 200) -> Response:
    """Statement 10."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    success = status < 400
    body = {
        "data": data,
        "meta": {"timestamp": now, "request_id": str(uuid.uuid4())},
        "status": "ok" if success else "error",
        "message": message,
        "success": success,
    }
    return Response(body, status=status)


def _error(error: Exception, context: Any) -> Response:
    """Statement 11: DRF's exception handler."""
    found = errors.problem_or_fault(error)
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), found.status)
    return errors.challenging(_envelope(None, found.detail, status=status if status in _KEPT else 400))
