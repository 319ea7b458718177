"""The bodies that `/v3` takes and gives: validation and documentation from one declaration."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema, create_model

HashType = Literal["pdq", "phash", "dhash", "ahash"]
ImageId = Annotated[str, StringConstraints(min_length=1)]
JsonObject = dict[str, Any]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewCollection(_Body):
    """A collection to make."""

    name: str = Field(description="1 to 64 letters, digits, dots, hyphens and underscores.")


class Picture(_Body):
    """A picture, by exactly one of the fields; as multipart/form-data the picture is the part `file`."""

    url: str | None = Field(None, description="Fetched by the service; public http and https addresses only.")
    base64: str | None = Field(None, description="The file's bytes, with or without a data: prefix.")


class PutImage(Picture):
    """A picture to index."""

    metadata: JsonObject | None = Field(None, description="Any JSON object, up to 64 KiB.")


class NewImage(PutImage):
    """A picture to index under an id of one's own."""

    id: ImageId | None = Field(None, description="Any text up to 512 bytes; a uuid4 when missing.")


class PatchImage(_Body):
    """New metadata for an image."""

    metadata: JsonObject


class Search(Picture):
    """What to search for: exactly one of url, base64, id, hash (or the part `file`)."""

    id: ImageId | None = Field(None, description="The picture stored under this id; it finds itself as well.")
    hash: str | None = Field(None, description="A fingerprint in hexadecimal, of the kind `hash_type`.")
    hash_type: HashType = "pdq"
    max_distance: int | None = Field(
        None, ge=0, le=256, description="In bits; 31 for pdq, 8 for the others if missing."
    )
    limit: int = Field(20, ge=1, le=1000)
    metadata: JsonObject | None = Field(None, description="Only images whose metadata contain this object.")


def form_of(body: type[Picture]) -> type[BaseModel]:
    """The same body as a form: the picture as the part `file`, metadata as JSON text."""
    texts = {
        name: (str | None if name == "metadata" else field.annotation, field)
        for name, field in body.model_fields.items()
        if name not in Picture.model_fields
    }
    binary = Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"})]
    fields: dict[str, Any] = {"file": (binary, ...), **texts}
    return create_model(f"{body.__name__}Form", **fields)


class Collection(BaseModel):
    """A collection."""

    name: str
    images: int
    created: datetime


class CreatedCollection(Collection):
    """A collection, with the number of the change that made it."""

    seq: int


class Collections(BaseModel):
    """All collections of the caller."""

    results: list[Collection]
    next_cursor: str | None


class Image(BaseModel):
    """An indexed image. `fingerprints` are hexadecimal; with a `quality` below 50 they say nothing."""

    id: str
    url: str
    metadata: JsonObject
    width: int
    height: int
    format: str
    bytes: int
    sha256: str
    fingerprints: dict[HashType, str]
    quality: int
    thumbnail: str
    created: datetime
    updated: datetime


class WrittenImage(Image):
    """An image as written, with the number of the change."""

    seq: int


class Images(BaseModel):
    """A page of images."""

    results: list[Image]
    next_cursor: str | None


class Deleted(BaseModel):
    """What was deleted, with the number of the change."""

    id: str
    seq: int


class Hit(BaseModel):
    """A search result; `distance` in bits, `similarity` 0 to 100."""

    id: str
    distance: int
    similarity: float
    kind: Literal["exact", "near"]
    url: str
    metadata: JsonObject
    width: int
    height: int
    format: str
    thumbnail: str


class SearchResults(BaseModel):
    """The answer to a search, best first.

    `indexed_through` is the number of the last change taken into account: never less than the `seq` of any write that
    was acknowledged before the search began. `searched_by` is `bytes` where the query has too little texture
    (`quality` below 50) for its fingerprint to mean anything; then only files with equal bytes are found.
    """

    results: list[Hit]
    indexed_through: int
    took_ms: float
    exact: bool
    hash_type: HashType
    max_distance: int
    searched_by: Literal["fingerprint", "bytes"]
    quality: int | None


class Box(BaseModel):
    """Where an object is, in pixels of the upright picture: columns left to right - 1, rows top to bottom - 1."""

    left: int
    top: int
    right: int
    bottom: int


class Detection(BaseModel):
    """One object: its COCO label, how certain the detector is (0 to 1), and where it is."""

    label: str
    score: float
    box: Box


class Detections(BaseModel):
    """The objects in a picture, the most certain first; `width` and `height` in pixels, upright."""

    detector: str
    width: int
    height: int
    detections: list[Detection]


class ProblemDetails(BaseModel):
    """An error (RFC 9457); `code` is stable."""

    type: str
    title: str
    status: int
    code: str
    detail: str
