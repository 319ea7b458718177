"""A lock that searches share and writes hold alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class ReadersWriterLock:
    """Any number of readers, or one writer. Not reentrant.

    Everybody enters by one door. A writer keeps it shut until the readers inside have left and it is done, so
    a waiting writer is never overtaken by a stream of new readers; readers and writers then compete for the
    door as equals, so a stream of writers does not starve the readers either.
    """

    __slots__ = ("_count", "_door", "_readers", "_room")

    def __init__(self) -> None:
        self._door = Lock()
        self._room = Lock()  # held by the writer, or by the readers together
        self._count = Lock()
        self._readers = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Share the lock with other readers."""
        with self._door, self._count:
            self._readers += 1
            if self._readers == 1:
                self._room.acquire()  # free: a writer would be holding the door
        try:
            yield
        finally:
            with self._count:
                self._readers -= 1
                if self._readers == 0:
                    self._room.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._door, self._room:
            yield
