"""Can this process answer? The reasons why not."""

import logging

from django.db import DatabaseError, InterfaceError

from imgindex.services import sync
from imgindex.types import NotReady

logger = logging.getLogger(__name__)


def ready() -> int:
    """Bring the index in step and say up to which change; raises NotReady with the reason."""
    try:
        return sync.replica.catch_up(patience_s=1).position.seq
    except (DatabaseError, InterfaceError) as exc:
        logger.warning("not ready: %s", exc)
        raise NotReady("The database does not answer.") from exc
