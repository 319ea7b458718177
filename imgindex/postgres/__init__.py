"""The embedded Postgres: start, stop, recover."""

from imgindex.postgres.cluster import Connection, EmbeddedPostgres, embedded
from imgindex.postgres.errors import (
    ClusterOfAnotherUser,
    ClusterOfAnotherVersion,
    NoUnprivilegedUser,
    PostgresDidNotStart,
    PostgresDidNotStop,
)
from imgindex.postgres.programs import MAJOR, programs, unprivileged_user

__all__ = [
    "MAJOR",
    "ClusterOfAnotherUser",
    "ClusterOfAnotherVersion",
    "Connection",
    "EmbeddedPostgres",
    "NoUnprivilegedUser",
    "PostgresDidNotStart",
    "PostgresDidNotStop",
    "embedded",
    "programs",
    "unprivileged_user",
]
