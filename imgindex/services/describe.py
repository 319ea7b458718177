"""From a source to a description: fetch or read the bytes, then decode and fingerprint them in a worker process.

Strangers' bytes are decoded outside the web process, in a bounded pool whose processes have an address-space limit
and a hard deadline: a decoder that crashes, hangs or swallows memory costs one child and one 4xx answer.
"""

import multiprocessing
import resource
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as DeadlineExceeded
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import TypeVar

from django.conf import settings
from pebble import ProcessExpired, ProcessPool

from imgindex import intake
from imgindex.types import DecodeTimeout
from matching.describe import describe as describe_bytes
from matching.describe import probe as probe_bytes
from matching.types import Description, ImageTooLarge, NotAnImage, Probe

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class FromUrl:
    """A picture to be fetched."""

    url: str


@dataclass(frozen=True, slots=True)
class FromBase64:
    """A picture sent as text, with or without a data: prefix."""

    text: str


@dataclass(frozen=True, slots=True)
class FromUpload:
    """A picture sent as a file, or read from one."""

    file: intake.Readable | intake.Chunked


Source = FromUrl | FromBase64 | FromUpload


def _fetch_policy() -> intake.FetchPolicy:
    return intake.FetchPolicy(
        max_bytes=settings.MAX_IMAGE_BYTES,
        deadline_s=float(settings.FETCH_TIMEOUT),
        ports=settings.FETCH_PORTS,
        allow=settings.FETCH_ALLOW,
    )


def read(source: Source) -> bytes:
    """The bytes that a source stands for; raises the errors of `intake`."""
    match source:
        case FromUrl(url):
            return intake.from_url(url, policy=_fetch_policy())
        case FromBase64(text):
            return intake.from_base64(text, max_bytes=settings.MAX_IMAGE_BYTES)
        case FromUpload(file):
            return intake.from_upload(file, max_bytes=settings.MAX_IMAGE_BYTES)


def describe(data: bytes) -> Description:
    """Decode and fingerprint one image to be indexed; raises NotAnImage, ImageTooLarge and DecodeTimeout."""
    return _in_pool(describe_bytes, data, thumbnail_side=settings.THUMBNAIL_SIDE)


def probe(data: bytes, *, fingerprint: str) -> Probe:
    """Decode and fingerprint one image to be searched for; raises as `describe` does."""
    return _in_pool(probe_bytes, data, fingerprint=fingerprint)


def _in_pool(function: Callable[..., Answer], data: bytes, **options: int | str) -> Answer:
    for last_try in (False, True):
        future = _pool.get().schedule(
            function,
            args=[data],
            kwargs={"max_pixels": settings.MAX_IMAGE_PIXELS, **options},
            timeout=settings.DECODE_TIMEOUT,
        )
        try:
            answer: Answer = future.result()
        except DeadlineExceeded as exc:
            raise DecodeTimeout(f"Decoding took longer than {settings.DECODE_TIMEOUT} seconds.") from exc
        except MemoryError as exc:
            raise ImageTooLarge("Decoding the image needs more memory than is allowed.") from exc
        except ProcessExpired as exc:
            # The child died. Once may be somebody else's doing (the kernel short of memory, an operator);
            # twice in a row it is this image.
            if last_try:
                raise NotAnImage("The decoder failed on these bytes.") from exc
        else:
            return answer
    raise AssertionError("unreachable")


class _Pool:
    """The decode pool of this process, started on first use."""

    def __init__(self) -> None:
        self.processes = settings.DECODE_PROCESSES
        self._lock = threading.Lock()
        self._pool: ProcessPool | None = None

    def get(self) -> ProcessPool:
        with self._lock:
            if self._pool is None or not self._pool.active:
                # The fork server has imported the core once; a replaced child is there in milliseconds.
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(["matching.describe"])
                self._pool = ProcessPool(
                    max_workers=self.processes,
                    initializer=_limit_memory,
                    initargs=[settings.DECODE_MEMORY],
                    context=context,
                )
                # A web worker leaves through multiprocessing, which joins its children: the pool must end them
                # first. `atexit` would be passed over.
                Finalize(None, self.stop, exitpriority=10)
            return self._pool

    def stop(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.stop()  # type: ignore[no-untyped-call]
                self._pool.join()
                self._pool = None


_pool = _Pool()


def _limit_memory(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def start_pool(*, processes: int | None = None) -> None:
    """Start the decode processes before the first request needs them; DECODE_PROCESSES unless told otherwise."""
    if processes is not None:
        _pool.processes = processes
    _pool.get().schedule(_nothing)


def stop_pool() -> None:
    """End the decode processes, waiting for none of their work."""
    _pool.stop()


def _nothing() -> None:
    return None
