"""`manage.py index_images FOLDER | URLS.txt`: index many pictures with a progress bar, resumable."""

import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, InterfaceError
from tqdm import tqdm

from imgindex.services import access, library
from imgindex.services.catalogue import DEFAULT_COLLECTION
from imgindex.services.library import Item, Outcome
from imgindex.types import Caller, CollectionNotFound


class Command(BaseCommand):
    """Read what to index, show how it goes, sum up."""

    help = "Index a folder of pictures, one picture, or a text file with a URL on each line."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", type=Path, metavar="FOLDER|URLS.txt")
        parser.add_argument("--collection", "-c", default=DEFAULT_COLLECTION, help="where to (default: default)")
        parser.add_argument("--prefix", default="", help="put this before every id, such as 'holidays/'")
        parser.add_argument("--tenant", default=access.DEFAULT_TENANT, help="whose collection (default: default)")
        parser.add_argument(
            "--jobs",
            "-j",
            type=int,
            default=os.cpu_count() or 1,
            help="pictures at a time (default: one per core)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["jobs"] < 1:
            raise CommandError("--jobs must be at least 1.")
        items = self._items(options["source"], options["prefix"])
        counts: Counter[str] = Counter()
        failures: list[Outcome] = []
        outcomes = library.index_items(
            caller=Caller(options["tenant"]),
            collection=options["collection"],
            items=items,
            jobs=options["jobs"],
        )
        try:
            # Closing the generator gives up what has not begun.
            with closing(outcomes):
                for outcome in tqdm(outcomes, total=len(items), unit="image", dynamic_ncols=True, smoothing=0.1):
                    counts[outcome.status] += 1
                    if outcome.status == "failed":
                        failures.append(outcome)
        except CollectionNotFound as exc:
            raise CommandError(f"{exc} Make it first: POST /v3/collections, or in the admin.") from exc
        except (DatabaseError, InterfaceError) as exc:
            raise CommandError(f"The database failed; start the same command again to go on. {exc}") from exc
        except KeyboardInterrupt:
            self.stderr.write("\nStopped; start the same command again to go on.")
        for failure in failures:
            self.stderr.write(f"failed: {_printable(failure.item.id)}: {_printable(failure.reason)}")
        self.stdout.write(
            f"{counts['indexed']} indexed, {counts['skipped']} already there, {counts['failed']} failed"
            f" of {len(items)} in {options['collection']}"
        )
        if not counts["indexed"] and not counts["skipped"]:
            raise CommandError("Nothing could be indexed.")

    def _items(self, source: Path, prefix: str) -> list[Item]:
        if source.is_dir():
            found = library.items_of_folder(source, prefix=prefix)
            items = found.items
            if found.others:
                self.stdout.write(f"{found.others} files are passed over: they are no pictures by their names.")
            for problem in found.unreadable:
                self.stderr.write(f"failed: {_printable(str(problem.filename))}: {problem.strerror}")
        elif source.is_file() and source.suffix.lower() in library.EXTENSIONS:
            items = [Item(id=prefix + source.name, path=source.absolute())]
        elif source.is_file():
            try:
                items = library.items_of_list(source, prefix=prefix)
            except UnicodeDecodeError as exc:
                raise CommandError(f"{source} is neither a picture by its name nor a text file of URLs.") from exc
        else:
            raise CommandError(f"There is no folder or file {source}.")
        if not items:
            raise CommandError(f"There is nothing to index in {source}.")
        return items


def _printable(text: str) -> str:
    """File names may hold bytes that no terminal can show."""
    return text.encode(errors="backslashreplace").decode()
