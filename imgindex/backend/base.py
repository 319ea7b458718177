"""The database backend that Django loads by this module's name."""

from pathlib import Path
from typing import Any

from django.db.backends.postgresql import base
from psycopg import OperationalError

from imgindex.postgres import PostgresDidNotStart, PostgresDidNotStop, embedded


class DatabaseWrapper(base.DatabaseWrapper):
    """Connects to the embedded Postgres under `DATABASES[...]["DATA_DIR"]`, which it starts on first use."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        server = embedded(Path(self.settings_dict["DATA_DIR"]))
        try:
            if not server.in_use:
                server.ensure_started()
            try:
                return super().get_new_connection(conn_params)
            except OperationalError:
                # It was killed since. What else may be wrong fails again here.
                server.ensure_started()
                return super().get_new_connection(conn_params)
        except (PostgresDidNotStart, PostgresDidNotStop) as exc:
            raise OperationalError(str(exc)) from exc
