"""The readers-writer lock: who may be inside together, and who goes first."""

import threading
from contextlib import AbstractContextManager

import pytest

from matching.index.lock import ReadersWriterLock

SOON = 0.05
HANGS = 10


class Visitor(threading.Thread):
    """Enters by a way, says so, and stays until told to leave."""

    def __init__(self, way: AbstractContextManager[None]) -> None:
        super().__init__(daemon=True)
        self.way, self.inside, self.leave = way, threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self.way:
            self.inside.set()
            self.leave.wait(HANGS)


def test_readers_share() -> None:
    lock = ReadersWriterLock()
    readers = [Visitor(lock.reading()) for _ in range(3)]
    assert all(reader.inside.wait(HANGS) for reader in readers)
    for reader in readers:
        reader.leave.set()


def test_a_writer_is_alone_and_a_waiting_one_is_not_overtaken() -> None:
    lock = ReadersWriterLock()
    first = Visitor(lock.reading())
    assert first.inside.wait(HANGS)
    writer = Visitor(lock.writing())
    assert not writer.inside.wait(SOON)
    late = Visitor(lock.reading())
    assert not late.inside.wait(SOON)
    first.leave.set()
    assert writer.inside.wait(HANGS)
    assert not late.inside.wait(SOON)
    writer.leave.set()
    assert late.inside.wait(HANGS)
    late.leave.set()


@pytest.mark.parametrize("way", ["reading", "writing"])
def test_an_error_inside_lets_go(way: str) -> None:
    lock = ReadersWriterLock()
    with pytest.raises(KeyError), getattr(lock, way)():
        raise KeyError
    with lock.writing():
        pass
