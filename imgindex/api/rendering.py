"""JSON in and out, through orjson."""

from collections.abc import Mapping
from typing import IO, Any, cast

import orjson
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import QueryDict
from django.utils.http import parse_header_parameters
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.renderers import BaseRenderer

# orjson reads 1,024 levels and writes 254: what goes back to the caller inside an answer must fit.
_LEVELS = 200


def _deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value has more levels of arrays and objects than that."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper(item, levels - 1) for item in inner)


class JSON(BaseRenderer):
    """Answers are JSON whatever the Accept header says."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data)


class JSONBody(BaseParser):
    """The body as JSON; a request without one is an empty object."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        assert parser_context is not None
        # Not from the stream: Django's `body` refuses what is above the limit before it reads any of it.
        body = parser_context["request"].body
        if not body:
            return {}
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise ParseError("The body is not valid JSON.") from exc
        # Few bodies have brackets enough to be looked at.
        if body.count(b"[") + body.count(b"{") > _LEVELS and _deeper(value, _LEVELS):
            raise ParseError(f"The body has more than {_LEVELS} levels.")
        return value


class FormBody(MultiPartParser):
    """multipart/form-data, refused by its length before a file of any size is spooled to disk."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        assert parser_context is not None
        length = parser_context["request"].META.get("CONTENT_LENGTH", "")
        if length.isdigit() and int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise RequestDataTooBig
        seen = _LastBytes(stream)
        # Texts in a form are UTF-8, whatever charset the request claims: some that Python knows decode no bytes.
        form = super().parse(cast("IO[bytes]", seen), media_type, {**parser_context, "encoding": "utf-8"})
        _, parameters = parse_header_parameters(media_type or "")
        # Django is content with a form that was cut off: its last field would count as it stands.
        if f"--{parameters.get('boundary', '')}--".encode() not in seen.last:
            raise ParseError("The form was cut off: its closing boundary is missing.")
        return form


class UrlEncodedBody(BaseParser):
    """application/x-www-form-urlencoded, for the documents that know forms; its texts are UTF-8."""

    media_type = "application/x-www-form-urlencoded"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        assert parser_context is not None
        # Django's `body` refuses what is above the limit before it reads any of it.
        return QueryDict(parser_context["request"].body, encoding="utf-8")


class _LastBytes:
    """A stream that remembers the end of what was read from it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int) -> bytes:
        piece: bytes = self._stream.read(size)
        self.last = (self.last + piece)[-1024:]
        return piece


class AlwaysJSON(BaseContentNegotiation):
    """Picks the parser by the body's type and the one renderer there is."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        content_type = (request.content_type or "application/json").split(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == content_type), None)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type
