"""`/v3`: collections, images and search."""

import time

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import BaseModel
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from imgindex.api import fields
from imgindex.api.auth import caller_of
from imgindex.api.v3 import schemas, serialise
from imgindex.services import catalogue
from imgindex.services.describe import Source
from imgindex.services.search import ByHash, ById, search
from imgindex.types import InvalidInput


def _problems(*more: int) -> dict[tuple[int, str], type[schemas.ProblemDetails]]:
    """The errors that a call documents."""
    return {(status, "application/problem+json"): schemas.ProblemDetails for status in (400, 401, 404, 503, *more)}


def _picture_or_form(body: type[schemas.Picture]) -> dict[str, type[BaseModel]]:
    return {"application/json": body, "multipart/form-data": schemas.form_of(body)}


_READ_PROBLEMS = _problems()
_BODY_PROBLEMS = _problems(413, 415)
_PICTURE_PROBLEMS = _problems(413, 415, 422, 502, 504)


class Collections(APIView):
    """All collections of the caller."""

    @extend_schema(
        operation_id="list_collections",
        summary="List the collections",
        tags=["collections"],
        responses={200: schemas.Collections, **_READ_PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        """List the collections."""
        found = catalogue.collection_list(caller=caller_of(request))
        return Response({"results": [serialise.collection(item) for item in found], "next_cursor": None})

    @extend_schema(
        operation_id="create_collection",
        summary="Make a collection",
        tags=["collections"],
        request={"application/json": schemas.NewCollection},
        responses={201: schemas.CreatedCollection, **_problems(409, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """Make a collection."""
        asked = fields.body(request, schemas.NewCollection)
        collection, seq = catalogue.collection_create(caller=caller_of(request), name=asked.name)
        return Response({**serialise.collection(collection), "seq": seq}, status=201)


class Collection(APIView):
    """One collection."""

    @extend_schema(
        operation_id="get_collection",
        summary="Show a collection",
        tags=["collections"],
        responses={200: schemas.Collection, **_READ_PROBLEMS},
    )
    def get(self, request: Request, collection: str) -> Response:
        """Show a collection."""
        found = catalogue.collection_get(caller=caller_of(request), name=collection, counted=True)
        return Response(serialise.collection(found))

    @extend_schema(
        operation_id="delete_collection",
        summary="Delete a collection with all its images",
        tags=["collections"],
        responses={200: schemas.Deleted, **_READ_PROBLEMS},
    )
    def delete(self, request: Request, collection: str) -> Response:
        """Delete a collection with all its images."""
        seq = catalogue.collection_delete(caller=caller_of(request), name=collection)
        return Response({"id": collection, "seq": seq})


_PICTURE = "A picture by `url`, as `base64`, or as the part `file` of multipart/form-data."


class Images(APIView):
    """The images of a collection."""

    @extend_schema(
        operation_id="list_images",
        summary="List images, oldest first",
        tags=["images"],
        parameters=[
            OpenApiParameter("limit", int, description="1 to 1000, 100 if missing."),
            OpenApiParameter("cursor", str, description="The next_cursor of the page before."),
            OpenApiParameter("metadata.KEY", str, description="Only images whose metadata have this value."),
        ],
        responses={200: schemas.Images, **_READ_PROBLEMS},
    )
    def get(self, request: Request, collection: str) -> Response:
        """List images, oldest first."""
        page = catalogue.image_page(
            caller=caller_of(request),
            collection=collection,
            limit=fields.limit(request, default=100, most=1000),
            after=fields.cursor(request),
            filters=fields.metadata_filters(request),
        )
        results = [serialise.image(item, collection) for item in page.images]
        return Response({"results": results, "next_cursor": fields.write_cursor(page.next_after)})

    @extend_schema(
        operation_id="add_image",
        summary="Index a picture",
        tags=["images"],
        description=f"Index a picture. {_PICTURE} It is searchable when the answer arrives; a known id is replaced.",
        request=_picture_or_form(schemas.NewImage),
        responses={201: schemas.WrittenImage, 200: schemas.WrittenImage, **_PICTURE_PROBLEMS},
    )
    def post(self, request: Request, collection: str) -> Response:
        """Index a picture."""
        asked = fields.body(request, schemas.NewImage)
        return _put(request, collection, asked, asked.id)


class Image(APIView):
    """One image."""

    @extend_schema(
        operation_id="get_image",
        summary="Show an image",
        tags=["images"],
        responses={200: schemas.Image, **_READ_PROBLEMS},
    )
    def get(self, request: Request, collection: str, image_id: str) -> Response:
        """Show an image."""
        found = catalogue.image_get(caller=caller_of(request), collection=collection, image_id=image_id)
        return Response(serialise.image(found, collection))

    @extend_schema(
        operation_id="put_image",
        summary="Index a picture under an id",
        tags=["images"],
        description=f"Index a picture under this id, or replace the one there. {_PICTURE}",
        request=_picture_or_form(schemas.PutImage),
        responses={201: schemas.WrittenImage, 200: schemas.WrittenImage, **_PICTURE_PROBLEMS},
    )
    def put(self, request: Request, collection: str, image_id: str) -> Response:
        """Index a picture under an id."""
        return _put(request, collection, fields.body(request, schemas.PutImage), image_id)

    @extend_schema(
        operation_id="patch_image",
        summary="Replace an image's metadata",
        tags=["images"],
        request={"application/json": schemas.PatchImage},
        responses={200: schemas.WrittenImage, **_BODY_PROBLEMS},
    )
    def patch(self, request: Request, collection: str, image_id: str) -> Response:
        """Replace an image's metadata."""
        asked = fields.body(request, schemas.PatchImage)
        written = catalogue.image_patch(
            caller=caller_of(request), collection=collection, image_id=image_id, metadata=asked.metadata
        )
        return Response(serialise.written(written, collection))

    @extend_schema(
        operation_id="delete_image",
        summary="Delete an image",
        tags=["images"],
        responses={200: schemas.Deleted, **_READ_PROBLEMS},
    )
    def delete(self, request: Request, collection: str, image_id: str) -> Response:
        """Delete an image; no search finds it once the answer arrives."""
        seq = catalogue.image_delete(caller=caller_of(request), collection=collection, image_id=image_id)
        return Response({"id": image_id, "seq": seq})


def _put(request: Request, collection: str, asked: schemas.PutImage, image_id: str | None) -> Response:
    written = catalogue.image_put(
        caller=caller_of(request),
        collection=collection,
        source=fields.required_source(request, asked),
        image_id=image_id,
        metadata=asked.metadata,
    )
    return Response(serialise.written(written, collection), status=201 if written.created else 200)


class Thumbnail(APIView):
    """An image's thumbnail."""

    @extend_schema(
        operation_id="get_thumbnail",
        summary="The thumbnail, a JPEG",
        tags=["images"],
        responses={(200, "image/jpeg"): bytes, **_READ_PROBLEMS},
    )
    def get(self, request: Request, collection: str, image_id: str) -> HttpResponse:
        """The thumbnail as a JPEG."""
        content = catalogue.thumbnail(caller=caller_of(request), collection=collection, image_id=image_id)
        return HttpResponse(content, content_type="image/jpeg", headers={"Cache-Control": "private, max-age=60"})


class Search(APIView):
    """Search a collection."""

    @extend_schema(
        operation_id="search",
        summary="Have we seen this picture before?",
        tags=["search"],
        description=f"Find the images that look like a picture. {_PICTURE} Or by `id` or `hash`.",
        request=_picture_or_form(schemas.Search),
        responses={200: schemas.SearchResults, **_PICTURE_PROBLEMS},
    )
    def post(self, request: Request, collection: str) -> Response:
        """Have we seen this picture before?"""
        began = time.perf_counter()
        asked = fields.body(request, schemas.Search)
        answer = search(
            caller=caller_of(request),
            collection=collection,
            query=_query(request, asked),
            hash_type=asked.hash_type,
            max_distance=asked.max_distance,
            limit=asked.limit,
            filters=[[asked.metadata]] if asked.metadata else [],
        )
        took_ms = (time.perf_counter() - began) * 1000
        return Response(serialise.search_results(answer, collection, took_ms=took_ms))


def _query(request: Request, asked: schemas.Search) -> Source | ById | ByHash:
    picture = fields.source(request, asked)
    queries: list[Source | ById | ByHash] = [] if picture is None else [picture]
    if asked.id is not None:
        queries.append(ById(asked.id))
    if asked.hash is not None:
        queries.append(ByHash(asked.hash))
    if len(queries) != 1:
        raise InvalidInput("Give exactly one of url, base64, id, hash, or the part 'file' of multipart/form-data.")
    return queries[0]
