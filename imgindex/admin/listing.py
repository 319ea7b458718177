"""Lists that stay fast with millions of rows: counting, searching, filtering."""

import json
import re
from functools import cached_property
from typing import Any

import orjson
from django.contrib import admin
from django.contrib.admin.filters import RelatedFieldListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Field, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpRequest
from django.utils.text import smart_split, unescape_string_literal

from imgindex import models
from imgindex.services.catalogue import MAX_CONDITIONS
from imgindex.services.conditions import key_is
from matching.image import FORMATS

# Each dot may be a step inwards: the bound on the length is one on the depth.
_KEY = re.compile(r"[\w.-]{1,100}")


class EstimatingPaginator(Paginator):
    """Counts exactly up to a bound, and takes the query planner's estimate beyond it."""

    EXACT = 20_000

    @cached_property
    def _counted(self) -> tuple[int, bool]:
        """The number of rows, and whether it is an estimate."""
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows), False
        unordered = rows.order_by()
        exact = unordered[: self.EXACT + 1].count()
        if exact <= self.EXACT:
            return exact, False
        [plan] = json.loads(unordered.explain(format="json"))
        return max(exact, plan["Plan"]["Plan Rows"]), True

    @property
    def count(self) -> int:
        """The number of rows, from which the number of pages follows."""
        return self._counted[0]

    @property
    def summary(self) -> str:
        """The number of rows for a person."""
        number, estimated = self._counted
        return f"about {number:,}" if estimated else f"{number:,}"


class ImageList(ChangeList):
    """The list of images, without the columns that only a single image's page shows."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """The images that the filters and the search leave over."""
        found = super().get_queryset(request, exclude_parameters)
        return found.defer("metadata", "source_url", "pdq", "phash", "dhash", "ahash", "sha256", "original")


def matching_images(images: QuerySet[models.Image], text: str) -> QuerySet[models.Image]:
    """The images that satisfy every term of a search.

    A term `key=value` asks for that value of a metadata key and is answered by its index. Any other term is a word that
    the id, the source or the text of the metadata must contain, in any case: Postgres reads all rows for it. Quotes
    keep spaces in a term together and make a word of what looks like a key.
    """
    found = images.alias(metadata_text=Cast("metadata", TextField()))
    # Each word is a pass over every row.
    for term in list(smart_split(text))[:MAX_CONDITIONS]:
        key, equals, value = term.partition("=")
        found = found.filter(_has(key, value) if equals and _KEY.fullmatch(key) else _mentions(_unquoted(term)))
    return found


def _mentions(word: str) -> Q:
    # The text of a jsonb escapes quotes and backslashes as JSON does.
    in_json = orjson.dumps(word).decode()[1:-1]
    return Q(external_id__icontains=word) | Q(source_url__icontains=word) | Q(metadata_text__icontains=in_json)


def _has(key: str, value: str) -> Q:
    text = _unquoted(value)
    wanted = Q()
    for contained in key_is(key, text, literal=text != value):
        wanted |= Q(metadata__contains=contained)
    return wanted


def _unquoted(term: str) -> str:
    quoted = len(term) > 1 and term[0] in "\"'" and term[-1] == term[0]
    return unescape_string_literal(term) if quoted else term


def label(collection: models.Collection) -> str:
    """A collection's name; with its tenant where that is not the default one, since names repeat among tenants."""
    return collection.name if collection.tenant == "default" else f"{collection.tenant} / {collection.name}"


class CollectionFilter(RelatedFieldListFilter):
    """By collection, named so that they can be told apart."""

    def field_choices(self, field: Field, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, Any]]:
        """Every collection by tenant and name."""
        found = models.Collection.objects.filter(dropped=None).order_by("tenant", "name")
        return [(str(collection.pk), label(collection)) for collection in found]


class FormatFilter(admin.SimpleListFilter):
    """By file format; the choices are the formats that are accepted, which no query over all images need tell."""

    title = "format"
    parameter_name = "format"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        """The accepted formats."""
        return [(name, name) for name in FORMATS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The images of the chosen format."""
        return queryset.filter(format=self.value()) if self.value() else queryset
