"""What the web server runs: the application of one worker process."""

import os
import tempfile
from collections.abc import Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imgindex.settings")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

_CHUNK = 1 << 16


class MeasuredBody:
    """Gives a request without Content-Length (chunked, or HTTP/2) one, which Django takes for an empty body.

    The body is read first, into memory or a temporary file, and no further than just past what the service takes:
    then the length alone has it refused.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("CONTENT_LENGTH") or environ["REQUEST_METHOD"] in {"GET", "HEAD", "OPTIONS"}:
            return self._application(environ, start_response)
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
