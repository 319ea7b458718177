"""000, the image tools (statements 1 to 5)."""

from typing import Literal, cast

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from imgindex import intake
from imgindex.api import errors
from imgindex.api.fields import json_object
from imgindex.api.legacy.base import Document
from imgindex.services import pictures
from imgindex.services.describe import FromUrl
from imgindex.types import InvalidInput


class _View(Document):
    """Any failure is a 400 with the single key `error`."""

    def error(self, error: Exception, found: errors.Problem) -> Response:
        fetched = isinstance(error, intake.IntakeError)
        text = f"Failed to fetch image data: {found.detail}" if fetched else found.detail
        return Response({"error": text}, status=400)


class ImageHash(_View):
    """Statement 1: SHA-256 of the file, or of its pixels."""

    def post(self, request: Request) -> Response:
        url, of = _text(request, "image_url"), json_object(request).get("of", "bytes")
        if of not in ("bytes", "pixels"):
            raise InvalidInput("'of' must be 'bytes' or 'pixels'")
        digest = pictures.sha256(source=FromUrl(url), of=cast("Literal['bytes', 'pixels']", of))
        return Response({"image_hash": digest})


class CentreCrop(_View):
    """Statements 3 and 4."""

    def post(self, request: Request) -> HttpResponse:
        url, width, height = _text(request, "image_url"), _side(request, "width"), _side(request, "height")
        crop = pictures.centre_crop(source=FromUrl(url), width=width, height=height)
        return HttpResponse(crop, content_type="image/jpeg")


class SiftDifference(_View):
    """Statement 5."""

    def post(self, request: Request) -> Response:
        first, second = FromUrl(_text(request, "image_url_1")), FromUrl(_text(request, "image_url_2"))
        return Response({"SIFT_difference": pictures.sift_difference(first=first, second=second)})


def _text(request: Request, name: str) -> str:
    value = _property(request, name)
    if not isinstance(value, str):
        raise InvalidInput(f"'{name}' is not of type 'str'")
    return value


def _side(request: Request, name: str) -> int:
    value = _property(request, name)
    # True is an int to Python.
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(f"'{name}' is not of type 'int'")
    if value < 1:
        raise InvalidInput(f"'{name}' must be at least 1")
    return value


def _property(request: Request, name: str) -> object:
    body = json_object(request)
    if name not in body:
        raise InvalidInput(f"Missing property: '{name}'")
    return body[name]
