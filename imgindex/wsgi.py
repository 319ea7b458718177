"""What the web server runs: the application of one worker process."""

import io
import os
import tempfile
from collections.abc import Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imgindex.settings")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

_CHUNK = 1 << 16


class WholeBody(io.RawIOBase):
    """A request's body of a known length, which breaks where the client leaves before its end.

    The server shows a lost connection as the end of the body, and half a form would pass for a whole one.
    """

    def __init__(self, stream: Any, length: int) -> None:
        self._stream = stream
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the server has something; raises OSError where the client has left."""
        wanted = min(len(buffer), self._left)
        if not wanted:
            return 0
        piece = self._stream.read(wanted)
        if not piece:
            raise OSError("the client left before the end of its request")
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)


class MeasuredBody:
    """Sees to it that a request's body has a length, and is all there when it is read.

    A body without Content-Length (chunked, or HTTP/2), which Django takes for an empty one, is read first, into memory
    or a temporary file, and no further than just past what the service takes: then the length has it refused.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in {"GET", "HEAD", "OPTIONS"}:
            return self._application(environ, start_response)
        if (given := environ.get("CONTENT_LENGTH", "")).isdecimal():
            # Django asks once for all that it wants, and takes less for the end: the reader asks until it is there.
            whole = io.BufferedReader(WholeBody(environ["wsgi.input"], int(given)), _CHUNK)
            return self._application({**environ, "wsgi.input": whole}, start_response)
        with tempfile.SpooledTemporaryFile(max_size=1 << 20) as body:
            length = 0
            while length <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
                piece = environ["wsgi.input"].read(_CHUNK)
                if not piece:
                    break
                length += body.write(piece)
            body.seek(0)
            return self._application({**environ, "wsgi.input": body, "CONTENT_LENGTH": str(length)}, start_response)


application = MeasuredBody(get_wsgi_application())

from imgindex.services import worker  # noqa: E402

worker.start()
