"""What a web worker process does besides answering: load its index, start its decode pool, end with its parent."""

import logging
import os
import signal
import threading
import time

from django.db import connection

from imgindex.services import describe, sync

logger = logging.getLogger(__name__)


def start() -> None:
    """Prepare this process for requests, in the background; a search that comes first waits for the index."""
    threading.Thread(target=_prepare, name="prepare", daemon=True).start()
    threading.Thread(target=_end_with_parent, args=[os.getppid()], name="end-with-parent", daemon=True).start()


def _prepare() -> None:
    try:
        describe.start_pool()
        sync.replica.catch_up()
    except Exception:  # a thread has no caller: the next request meets the same error and answers with it
        logger.exception("could not prepare the worker")
    finally:
        connection.close()


def _end_with_parent(parent: int) -> None:
    # A worker that outlives a killed supervisor would keep the port from the next one.
    while os.getppid() == parent:
        time.sleep(0.5)
    logger.warning("the supervisor is gone: ending")
    os.kill(os.getpid(), signal.SIGKILL)
