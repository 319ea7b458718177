"""A lock that searches share and writes hold alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock


class ReadersWriterLock:
    """Any number of readers, or one writer. Not reentrant.

    Everybody enters by one door. A writer keeps it shut until the readers inside have left and it is done, so
    a waiting writer is never overtaken by a stream of new readers; readers and writers then compete for the
    door as equals, so a stream of writers does not starve the readers either.
    """

    __slots__ = ("_door", "_last_reader_left", "_readers")

    def __init__(self) -> None:
        self._door = Lock()
        self._last_reader_left = Condition(Lock())
        self._readers = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._door, self._last_reader_left:
            self._readers += 1
        try:
            yield
        finally:
            with self._last_reader_left:
                self._readers -= 1
                if self._readers == 0:
                    self._last_reader_left.notify()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._door:
            with self._last_reader_left:
                while self._readers:
                    self._last_reader_left.wait()
            yield
