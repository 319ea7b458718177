"""What can go wrong with the embedded Postgres."""


class PostgresDidNotStart(Exception):
    """The embedded Postgres could not be started; the message names the fix and ends with its log."""


class PostgresDidNotStop(Exception):
    """The embedded Postgres outlived a request to stop; the next user of the folder adopts it."""


class ClusterOfAnotherVersion(PostgresDidNotStart):
    """The data folder was written by another major version of Postgres."""


class ClusterOfAnotherUser(PostgresDidNotStart):
    """The data folder belongs to a user whose files this process may not touch."""


class NoUnprivilegedUser(PostgresDidNotStart):
    """The service runs as root and found no other user whom Postgres could run as."""
