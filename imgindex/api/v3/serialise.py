"""Values of the services as the JSON objects of `/v3`."""

from typing import Any
from urllib.parse import quote

from imgindex.types import Collection, Hit, Image, SearchAnswer, Written
from matching.fingerprints import to_hex


def collection(value: Collection) -> dict[str, Any]:
    """A schemas.Collection."""
    return {"name": value.name, "images": value.images or 0, "created": value.created}


def thumbnail_path(collection_name: str, image_id: str) -> str:
    """Where an image's thumbnail is served."""
    return f"/v3/collections/{collection_name}/thumbnails/{quote(image_id)}"


def image(value: Image, collection_name: str) -> dict[str, Any]:
    """A schemas.Image."""
    return {
        "id": value.id,
        "url": value.source_url,
        "metadata": value.metadata,
        "width": value.width,
        "height": value.height,
        "format": value.format,
        "bytes": value.size,
        "sha256": value.sha256,
        "fingerprints": {name: to_hex(code) for name, code in value.fingerprints.items()},
        "quality": value.quality,
        "thumbnail": thumbnail_path(collection_name, value.id),
        "created": value.created,
        "updated": value.updated,
    }


def written(value: Written, collection_name: str) -> dict[str, Any]:
    """A schemas.WrittenImage."""
    return {**image(value.image, collection_name), "seq": value.seq}


def hit(value: Hit, collection_name: str) -> dict[str, Any]:
    """A schemas.Hit."""
    return {
        "id": value.image.id,
        "distance": value.distance,
        "similarity": value.similarity,
        "kind": value.kind,
        "url": value.image.source_url,
        "metadata": value.image.metadata,
        "width": value.image.width,
        "height": value.image.height,
        "format": value.image.format,
        "thumbnail": thumbnail_path(collection_name, value.image.id),
    }


def search_results(value: SearchAnswer, collection_name: str, *, took_ms: float) -> dict[str, Any]:
    """A schemas.SearchResults."""
    return {
        "results": [hit(item, collection_name) for item in value.hits],
        "indexed_through": value.indexed_through,
        "took_ms": round(took_ms, 3),
        "exact": True,
        "hash_type": value.hash_type,
        "max_distance": value.max_distance,
        "searched_by": value.searched_by,
        "quality": value.quality,
    }
