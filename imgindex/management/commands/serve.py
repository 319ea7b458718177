"""`manage.py serve`: everything that the service needs, then the service, until Ctrl-C or SIGTERM."""

import os
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import OperationalError, ProgrammingError, connection
from django.db.migrations.exceptions import MigrationSchemaMissing
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from imgindex.postgres import embedded
from imgindex.services import access, catalogue


class Command(BaseCommand):
    """Start Postgres where it is ours, bring tables and static files up to date, serve, stop in order."""

    help = "Run the whole service on HOST:PORT."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        # Closing the terminal is as good as Ctrl-C.
        signal.signal(signal.SIGHUP, signal.default_int_handler)
        address = _checked_address()
        try:
            self._prepare()
            self._serve(address)
        except (OperationalError, ProgrammingError, MigrationSchemaMissing) as exc:
            raise CommandError(f"The database cannot be used: {exc}".strip()) from exc
        finally:
            connection.close()
            if not settings.DATABASE_URL:
                embedded(settings.DATA_DIR).release()

    def _prepare(self) -> None:
        self.stdout.write(f"imgindex: preparing {settings.DATA_DIR}")
        self.stdout.flush()
        call_command("migrate", verbosity=0, interactive=False)
        call_command("collectstatic", verbosity=0, interactive=False)
        # What a kill may have cut off.
        catalogue.clear_dropped()
        # Where strangers can reach the service, no key appears on its output, which may be kept in a log.
        key = _development_key(settings.DATA_DIR / "development_key") if settings.HOST in settings.LOOPBACK else None
        connection.close()
        self.stdout.write(_welcome(key))
        self.stdout.flush()

    def _serve(self, address: str) -> None:
        server = Granian(
            "imgindex.wsgi:application",
            address=address,
            port=settings.PORT,
            interface=Interfaces.WSGI,
            workers=settings.WEB_WORKERS,
            blocking_threads=settings.WEB_THREADS,
            workers_kill_timeout=10,
            respawn_failed_workers=True,
            respawn_interval=0.5,
            log_level=LogLevels.error,
            websockets=False,
        )
        # Granian would reload on SIGHUP, and live on when its terminal is closed.
        server.on_startup(lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt))
        server.serve()


def _checked_address() -> str:
    """HOST as an address, free to listen on; what is wrong is said before anything is started."""
    try:
        family, *_, address = min(socket.getaddrinfo(settings.HOST, settings.PORT, type=socket.SOCK_STREAM))
    except OSError as exc:
        raise CommandError(f"HOST={settings.HOST} is no address of this machine: {exc.strerror}.") from exc
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as exc:
            raise CommandError(
                f"Cannot serve on {settings.HOST}:{settings.PORT}: {exc.strerror}. Another port: PORT=8080 make run"
            ) from exc
    return str(address[0])


def _welcome(key: str | None) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.HOST, settings.HOST)  # noqa: S104 - compared, not bound
    address = f"http://{f'[{host}]' if ':' in host.strip('[]') and host[0] != '[' else host}:{settings.PORT}"
    call = f"curl -H 'Authorization: Bearer {key or 'KEY'}'"
    images = f"{address}/v3/collections/default"
    return f"""
imgindex serves on {address} with {settings.WEB_WORKERS} processes, data under {settings.DATA_DIR}

  development key   {key or f"none on a public address; make one: {_command('create_key NAME')}"}
  documentation     {address}/docs
  browse the index  {address}/admin/
  an admin user     {_command("createsuperuser")}

Try it (index a picture, find it by a small grey copy, index a folder):

  {call} -F file=@docs/examples/picture.jpg -F id=my-first {images}/images
  {call} -F file=@docs/examples/copy.webp {images}/search
  {_command("index_images ~/Pictures")}

Ctrl-C stops it.
"""


def _command(words: str) -> str:
    """A command of manage.py as it can be typed in the current folder, with the settings that it must share."""
    shared = f"DATA_DIR={shlex.quote(os.environ['DATA_DIR'])} " if "DATA_DIR" in os.environ else ""
    if "DATABASE_URL" in os.environ:
        shared += "DATABASE_URL=... "  # it holds a password, and this output may be kept in a log
    python, manage = (_relative(path) for path in (Path(sys.executable), settings.BASE_DIR / "manage.py"))
    return f"{shared}{python} {manage} {words}"


def _relative(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _development_key(path: Path) -> str:
    """The key for trying things out: made on the first start, readable by the owner alone."""
    if path.exists():
        key = path.read_text().strip()
        if access.is_valid(key):
            return key
    key = access.create_key(name="development")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key)
    return key
