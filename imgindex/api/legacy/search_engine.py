"""003, the image search engine (statements 17 to 20)."""

import re
import uuid
from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from imgindex.api import errors
from imgindex.api.auth import caller_of
from imgindex.api.fields import json_object
from imgindex.api.legacy.base import Document
from imgindex.services import catalogue, pictures
from imgindex.services.describe import FromUrl
from imgindex.services.search import search, search_metadata
from imgindex.types import Hit, Image, InvalidInput, Metadata


class _View(Document):
    """Any failure is a 400 with a message."""

    def error(self, error: Exception, found: errors.Problem) -> Response:
        return Response({"message": found.detail}, status=400)


class Heartbeat(_View):
    """Statement 17."""

    authentication_classes = ()

    def get(self, request: Request) -> Response:
        return Response({"message": "Api is running"})


class IndexImage(_View):
    """Statement 18: the image under a url is searchable when the answer arrives; the same url again updates it."""

    def post(self, request: Request) -> Response:
        url, metadata = _url(request), json_object(request).get("metadata")
        if url is None:
            raise InvalidInput("No url provided")
        written = catalogue.image_put(
            caller=caller_of(request),
            collection=catalogue.DEFAULT_COLLECTION,
            source=FromUrl(url),
            # An id made of the url, so that two writers of one url at once still make one entry.
            image_id=str(uuid.uuid5(uuid.NAMESPACE_URL, url)),
            metadata=_as_object(metadata),
        )
        return Response({"message": "success", "id": written.image.id})


class SearchImages(_View):
    """Statement 19: by url, by metadata, or by both."""

    LIMIT: ClassVar[int] = 20
    # The document's engine ranks by likeness without a limit; so far out PDQ still orders rather than guesses.
    MAX_DISTANCE: ClassVar[int] = 60

    def post(self, request: Request) -> Response:
        url, metadata = _url(request), json_object(request).get("metadata")
        filters, words = _wanted(metadata)
        if url is not None:
            answer = search(
                caller=caller_of(request),
                collection=catalogue.DEFAULT_COLLECTION,
                query=FromUrl(url),
                max_distance=self.MAX_DISTANCE,
                limit=self.LIMIT,
                filters=filters,
                words=words,
            )
            return Response([_scored(hit) for hit in answer.hits])
        if not filters and not words:
            raise InvalidInput("No url or metadata provided")
        found = search_metadata(
            caller=caller_of(request),
            collection=catalogue.DEFAULT_COLLECTION,
            filters=filters,
            words=words,
            limit=self.LIMIT,
        )
        return Response([_payload(image, 1.0) for image in found])


class DetectObjects(_View):
    """Statement 20: labelled boxes drawn on the picture. The document's content type is no registered one."""

    def post(self, request: Request) -> HttpResponse:
        url = _url(request)
        if url is None:
            raise InvalidInput("url not provided error")
        drawn, detector = pictures.draw_objects(source=FromUrl(url))
        return HttpResponse(drawn, content_type="image/jpg", headers={"X-Detector": detector})


def _url(request: Request) -> str | None:
    url = json_object(request).get("url")
    if url is None or url == "":
        return None
    if not isinstance(url, str):
        raise InvalidInput("'url' is not of type 'str'")
    return url


def _as_object(metadata: Any) -> Metadata:
    # The document calls it metadata and no more; what is not an object is kept under one key.
    if metadata is None:
        return {}
    return metadata if isinstance(metadata, dict) else {"text": metadata}


def _wanted(metadata: Any) -> tuple[list[list[Metadata]], list[str]]:
    """Metadata as a condition: every key of an object, every word of a text."""
    if isinstance(metadata, dict):
        return [[{key: value}] for key, value in metadata.items()], []
    if isinstance(metadata, str):
        return [], re.findall(r"\S+", metadata)
    if metadata is None:
        return [], []
    return [[_as_object(metadata)]], []


def _scored(hit: Hit) -> dict[str, Any]:
    return _payload(hit.image, hit.similarity / 100)


def _payload(image: Image, score: float) -> dict[str, Any]:
    return {
        "id": image.id,
        "score": round(score, 4),
        "payload": {"image_url": image.source_url, "metadata": image.metadata},
    }
