"""The decode pool: children that die, hang or swallow memory cost one answer and nothing else."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from imgindex.services import describe
from imgindex.types import Busy, DecodeTimeout
from matching.types import ImageTooLarge, NotAnImage
from tests.pictures import encoded, textured

PICTURE = encoded(textured(1), "JPEG")


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    """A pool of two for the test, and none after it."""
    describe.stop_pool()
    describe.start_pool(processes=2)
    yield
    describe.stop_pool()
    describe.start_pool(processes=1)


def in_pool(function: Callable[..., Any], data: bytes = b"") -> Any:
    return describe.in_pool(function, data)


def hang(data: bytes, *, max_pixels: int) -> None:
    time.sleep(60)


def die(data: bytes, *, max_pixels: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def swallow(data: bytes, *, max_pixels: int) -> int:
    return len(bytearray(1 << 40))


def children() -> list[psutil.Process]:
    """The decode processes: the fork server's children."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "forkserver" in " ".join(child.cmdline()) and child.children() == [] and child.ppid() != os.getpid()
    ]


def test_a_decoder_that_hangs_ends_at_the_deadline(settings: Any) -> None:
    settings.DECODE_TIMEOUT = 1
    began = time.monotonic()
    with pytest.raises(DecodeTimeout):
        in_pool(hang)
    assert time.monotonic() - began < 15
    assert describe.describe(PICTURE).width == 480


def test_a_decoder_that_dies_twice_is_given_up() -> None:
    with pytest.raises(NotAnImage):
        in_pool(die)
    assert describe.describe(PICTURE).width == 480


def test_a_decoder_that_wants_too_much_memory_is_refused() -> None:
    with pytest.raises(ImageTooLarge):
        in_pool(swallow)
    assert describe.describe(PICTURE).width == 480


def test_children_killed_between_two_images_cost_nobody_an_answer() -> None:
    for _ in range(3):
        describe.describe(PICTURE)
        idle = children()
        assert idle
        for child in idle:
            child.kill()
        with ThreadPoolExecutor(6) as threads:
            answers = [threads.submit(describe.describe, PICTURE) for _ in range(6)]
            assert {answer.result(timeout=60).width for answer in answers} == {480}


def test_work_that_cannot_begin_in_time_is_told_so_and_quick_work_does_not_wait_for_slow(settings: Any) -> None:
    settings.DECODE_TIMEOUT = 3
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(describe.in_pool, hang, b"", slow=True)
        time.sleep(0.5)
        second = threads.submit(describe.in_pool, hang, b"", slow=True)
        began = time.monotonic()
        assert describe.describe(PICTURE).width == 480
        assert time.monotonic() - began < 2
        with pytest.raises(DecodeTimeout):
            first.result(timeout=30)
        # It begins when the first is ended, or is refused where that comes too late.
        with pytest.raises((Busy, DecodeTimeout)):
            second.result(timeout=30)


def test_a_queue_that_does_not_move_is_refused(settings: Any) -> None:
    describe.stop_pool()
    describe.start_pool(processes=1)
    settings.DECODE_TIMEOUT = 6
    with ThreadPoolExecutor(1) as threads:
        long = threads.submit(describe.in_pool, hang, b"")
        time.sleep(1)
        settings.DECODE_TIMEOUT = 1
        began = time.monotonic()
        with pytest.raises(Busy):
            describe.describe(PICTURE)
        assert time.monotonic() - began < 5
        with pytest.raises(DecodeTimeout):
            long.result(timeout=30)


def test_stopping_leaves_no_process() -> None:
    describe.describe(PICTURE)
    before = children()
    assert before
    describe.stop_pool()
    assert psutil.wait_procs(before, timeout=10)[1] == []
