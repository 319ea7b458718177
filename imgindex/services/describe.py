"""From a source to a description: fetch or read the bytes, then decode and fingerprint them in a worker process.

Strangers' bytes are decoded outside the web process, in a bounded pool whose processes have an address-space limit
and a hard deadline: a decoder that crashes, hangs or swallows memory costs one child and one 4xx answer.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from concurrent.futures import TimeoutError as DeadlineExceeded
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import TypeVar

from django.conf import settings
from pebble import ProcessExpired, ProcessPool

from imgindex import intake
from imgindex.types import Busy, DecodeTimeout, NotReady
from matching.describe import describe as describe_bytes
from matching.describe import limit_memory
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
    return in_pool(describe_bytes, data, thumbnail_side=settings.THUMBNAIL_SIDE)


def probe(data: bytes, *, fingerprint: str) -> Probe:
    """Decode and fingerprint one image to be searched for; raises as `describe` does."""
    return in_pool(probe_bytes, data, fingerprint=fingerprint)


def in_pool(function: Callable[..., Answer], *datas: bytes, slow: bool = False, **options: int | str) -> Answer:
    """What a function of `matching` answers to files' bytes in a decode process, held to MAX_IMAGE_PIXELS.

    Work that may take seconds (`slow`) has a process of its own, so that nobody waits behind it who asks for less.
    Raises what the function raises, DecodeTimeout, ImageTooLarge where memory ran out, NotAnImage where the process
    died twice at it, Busy where it does not begin in time, and NotReady where no process starts.
    """
    pool = _slow_pool if slow else _pool
    for last_try in (False, True):
        try:
            return pool.run(function, *datas, max_pixels=settings.MAX_IMAGE_PIXELS, **options)
        except DeadlineExceeded as exc:
            raise DecodeTimeout(f"Working on the picture took longer than {settings.DECODE_TIMEOUT} seconds.") from exc
        except MemoryError as exc:
            raise ImageTooLarge("Decoding the image needs more memory than is allowed.") from exc
        except ProcessExpired as exc:
            # The child died at it. Once may be somebody else's doing (the kernel short of memory, an operator);
            # twice in a row it is this image.
            if last_try:
                raise NotAnImage("The decoder failed on these bytes.") from exc
        except PoolBroke as exc:
            if last_try:
                raise NotReady("The decode processes do not start; the log tells why.") from exc
    raise AssertionError("unreachable")


class PoolBroke(Exception):
    """The pool gave up before this task had begun; whose fault it was cannot be told."""


class _Pool:
    """A decode pool of this process, started on first use and replaced when it breaks."""

    def __init__(self, *, processes: int) -> None:
        self.resize(processes)
        self._lock = threading.Lock()
        self._pool: ProcessPool | None = None

    def run(self, function: Callable[..., Answer], *datas: bytes, **options: int | str) -> Answer:
        """What `function` answers or raises in a decode process; also raises PoolBroke and Busy."""
        # Taken by whoever has a process at work: so the wait for one is bounded, as the pool's own queue is not.
        places = self._places
        if not places.acquire(timeout=settings.DECODE_TIMEOUT):
            raise Busy("More pictures wait to be worked on than can be; try again in a moment.")
        try:
            pool = self.get()
            future = pool.schedule(function, args=datas, kwargs=options, timeout=settings.DECODE_TIMEOUT)
            # A pool whose child dies between two tasks drops what is queued without an answer: so look up now and
            # then whether there is still a pool to wait for.
            while not wait([future], timeout=1).done:
                if not pool.active:
                    raise PoolBroke
            answer: Answer = future.result()
        except (BrokenProcessPool, CancelledError, RuntimeError) as exc:
            raise PoolBroke from exc
        finally:
            places.release()
        return answer

    def resize(self, processes: int) -> None:
        """Have that many processes from the next start on."""
        self.processes = processes
        self._places = threading.BoundedSemaphore(processes)

    def get(self) -> ProcessPool:
        with self._lock:
            if self._pool is None or not self._pool.active:
                self._end()
                # The fork server has imported the core once, so that a child that died is replaced quickly.
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(["matching.describe"])
                self._pool = ProcessPool(
                    max_workers=self.processes,
                    initializer=limit_memory,
                    initargs=[settings.DECODE_MEMORY],
                    context=context,
                )
                # A web worker leaves through multiprocessing, which joins its children: the pool must end them
                # first. `atexit` would be passed over.
                Finalize(None, self.stop, exitpriority=10)
            return self._pool

    def stop(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            with suppress(DeadlineExceeded):
                self._pool.join(timeout=5)
            self._pool = None


_pool = _Pool(processes=settings.DECODE_PROCESSES)
_slow_pool = _Pool(processes=1)


def start_pool(*, processes: int | None = None) -> None:
    """Start the decode processes before the first request needs them; DECODE_PROCESSES unless told otherwise."""
    if processes is not None:
        _pool.resize(processes)
    _pool.get().schedule(os.getpid)


def stop_pool() -> None:
    """End the decode processes, waiting for none of their work."""
    _pool.stop()
    _slow_pool.stop()
