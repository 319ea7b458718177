"""How the fields of a request become values: bodies, pictures, cursors and metadata filters."""

import re
from typing import Any, Protocol, TypeVar

import orjson
from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from pydantic import BaseModel
from rest_framework.request import Request

from imgindex.services.conditions import key_is
from imgindex.services.describe import FromBase64, FromUpload, FromUrl, Source
from imgindex.types import InvalidInput, Metadata

Schema = TypeVar("Schema", bound=BaseModel)


class HasPicture(Protocol):
    """A body that may name a picture."""

    @property
    def url(self) -> str | None: ...
    @property
    def base64(self) -> str | None: ...


def body(request: Request, schema: type[Schema]) -> Schema:
    """The request's body, checked; JSON by its types, a form by what its texts can be read as.

    Raises pydantic's ValidationError and InvalidInput.
    """
    data = request.data
    if not isinstance(data, QueryDict):
        return schema.model_validate(data, strict=True)
    form: dict[str, Any] = {name: data[name] for name in data if name not in request.FILES}
    if repeated := [name for name in form if len(data.getlist(name)) > 1]:
        raise InvalidInput(f"{repeated[0]}: the form has this field more than once.")
    if "metadata" in form:
        try:
            form["metadata"] = orjson.loads(form["metadata"])
        except orjson.JSONDecodeError as exc:
            raise InvalidInput("metadata: in a form this field is JSON text.") from exc
    return schema.model_validate(form)


def source(request: Request, picture: HasPicture) -> Source | None:
    """The picture that a request carries, None where it carries none; raises InvalidInput where it carries several."""
    files = [file for name in request.FILES for file in request.FILES.getlist(name)]
    if unknown := sorted(set(request.FILES) - {"file"}):
        raise InvalidInput(f"{unknown[0]}: the file's part is named 'file'.")
    sources: list[Source] = [FromUpload(file) for file in files if isinstance(file, UploadedFile)]
    if picture.url is not None:
        sources.append(FromUrl(picture.url))
    if picture.base64 is not None:
        sources.append(FromBase64(picture.base64))
    if len(sources) > 1:
        raise InvalidInput("Give one picture only: url, base64 or the part 'file'.")
    return sources[0] if sources else None


def required_source(request: Request, picture: HasPicture) -> Source:
    """The picture that a request carries; raises InvalidInput unless it is exactly one."""
    found = source(request, picture)
    if found is None:
        raise InvalidInput("Give a picture: url, base64, or the part 'file' of multipart/form-data.")
    return found


def limit(request: Request, *, default: int, most: int) -> int:
    """The query parameter `limit`."""
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise InvalidInput(f"limit must be a whole number from 1 to {most}.")
    return int(text)


def cursor(request: Request) -> int:
    """The query parameter `cursor`, as `write_cursor` made it; 0 where a listing begins."""
    text = request.query_params.get("cursor")
    if text is None:
        return 0
    if not re.fullmatch("[0-9a-z]{1,13}", text) or (value := int(text, 36)) >= 2**63:
        raise InvalidInput("cursor must be the next_cursor of an earlier page.")
    return value


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def write_cursor(after: int | None) -> str | None:
    """A page's `next_cursor`."""
    if after is None:
        return None
    text = ""
    while after:
        after, digit = divmod(after, 36)
        text = _DIGITS[digit] + text
    return text or "0"


def metadata_filters(request: Request) -> list[list[Metadata]]:
    """The query parameters `metadata.key=value`, each as the objects of which one must be contained."""
    return [
        key_is(name.removeprefix("metadata."), value)
        for name, values in request.query_params.lists()
        if name.startswith("metadata.")
        for value in values
    ]


def json_object(request: Request) -> dict[str, Any]:
    """The body as an object of JSON, for documents that name no other form."""
    if not isinstance(request.data, dict):
        raise InvalidInput("The body must be a JSON object.")
    return request.data
