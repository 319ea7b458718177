"""`manage.py serve`: everything that the service needs, then the service, until Ctrl-C or SIGTERM."""

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connection
from granian import Granian
from granian.constants import Interfaces

from imgindex.postgres import embedded
from imgindex.services import access


class Command(BaseCommand):
    """Start Postgres where it is ours, bring tables and static files up to date, serve, stop in order."""

    help = "Run the whole service on HOST:PORT."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        # SIGTERM during the preparations takes the same orderly way out as Ctrl-C.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        _check_address()
        try:
            self._prepare()
            self._serve()
        finally:
            connection.close()
            if not settings.DATABASE_URL:
                embedded(settings.DATA_DIR).release()

    def _prepare(self) -> None:
        self.stdout.write(f"imgindex: preparing {settings.DATA_DIR}")
        call_command("migrate", verbosity=0, interactive=False)
        call_command("collectstatic", verbosity=0, interactive=False)
        key = _development_key(settings.DATA_DIR / "development_key")
        connection.close()
        address = f"http://{_host(settings.HOST)}:{settings.PORT}"
        self.stdout.write(
            f"""
imgindex serves on {address} with {settings.WEB_WORKERS} processes, data under {settings.DATA_DIR}

  development key   {key}
  documentation     {address}/docs
  browse the index  {address}/admin/   (make a user: {_command("createsuperuser")})

Try it:

  curl -H 'Authorization: Bearer {key}' -F file=@photo.jpg -F id=my-first {address}/v3/collections/default/images
  curl -H 'Authorization: Bearer {key}' -F file=@photo.jpg {address}/v3/collections/default/search
  {_command("index_images ~/Pictures --collection default")}

Ctrl-C stops it.
"""
        )
        self.stdout.flush()

    def _serve(self) -> None:
        # The worker processes are started anew and find the settings by this variable.
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imgindex.settings")
        Granian(
            "imgindex.wsgi:application",
            address=settings.HOST,
            port=settings.PORT,
            interface=Interfaces.WSGI,
            workers=settings.WEB_WORKERS,
            blocking_threads=settings.WEB_THREADS,
            workers_kill_timeout=10,
            respawn_failed_workers=True,
            respawn_interval=0.5,
            log_dictconfig=None,
            websockets=False,
        ).serve()


def _check_address() -> None:
    """Say that the port is taken before anything is started."""
    family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.HOST, settings.PORT))
        except OSError as exc:
            raise CommandError(
                f"Cannot serve on {settings.HOST}:{settings.PORT}: {exc.strerror}. Another port: PORT=8080 make run"
            ) from exc


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _command(words: str) -> str:
    return f"{Path(sys.executable)} manage.py {words}"


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
