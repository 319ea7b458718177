"""`manage.py create_key NAME`: a new API key, shown once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from imgindex.services import access
from imgindex.types import InvalidInput


class Command(BaseCommand):
    """Make a key and print it."""

    help = "Make an API key and print it; only its digest is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the key is for")
        parser.add_argument("--tenant", default=access.DEFAULT_TENANT, help="whose collections it opens")
        parser.add_argument("--plan", default=access.UNLIMITED, help="what it may do, such as free or pro")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key = access.create_key(name=options["name"], tenant=options["tenant"], plan=options["plan"])
        except InvalidInput as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(key)
