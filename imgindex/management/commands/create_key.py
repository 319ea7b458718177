"""`manage.py create_key NAME`: a new API key, shown once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from imgindex.services import access


class Command(BaseCommand):
    """Make a key and print it."""

    help = "Make an API key and print it; only its digest is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the key is for")
        parser.add_argument("--tenant", default=access.DEFAULT_TENANT, help="whose collections it opens")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(access.create_key(name=options["name"], tenant=options["tenant"]))
