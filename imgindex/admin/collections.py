"""Collections: the list with their sizes, new ones, and deletion as a whole."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from imgindex import models
from imgindex.admin.base import ServiceAdmin, caller_for
from imgindex.admin.forms import CollectionForm
from imgindex.admin.listing import label
from imgindex.services import catalogue
from imgindex.types import Caller, CollectionNotFound


@admin.register(models.Collection)
class CollectionAdmin(ServiceAdmin):
    """Browse collections, make them, delete them."""

    form = CollectionForm
    list_display = ("name", "tenant", "images", "created")
    list_filter = ("created",)
    search_fields = ("name", "tenant")
    ordering = ("tenant", "name")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.Collection]:
        """The collections with the number of their images."""
        images = models.Image.objects.filter(collection=OuterRef("pk")).order_by()
        number = images.values("collection").annotate(number=Count("*")).values("number")
        counted = Coalesce(Subquery(number, output_field=IntegerField()), 0)
        return super().get_queryset(request).filter(dropped=None).annotate(image_count=counted)

    def get_fields(self, request: HttpRequest, obj: models.Collection | None = None) -> tuple[str, ...]:
        """A new one has a name and a tenant."""
        return ("name", "tenant") if obj is None else ("name", "tenant", "images", "created")

    def get_readonly_fields(self, request: HttpRequest, obj: models.Collection | None = None) -> tuple[str, ...]:
        """Nothing can be changed afterwards: clients know a collection by its name."""
        return () if obj is None else ("name", "tenant", "images", "created")

    def has_change_permission(self, request: HttpRequest, obj: models.Collection | None = None) -> bool:
        """There is nothing to change."""
        return False

    @admin.display(description="images", ordering="image_count")
    def images(self, collection: models.Collection) -> SafeString:
        """How many images it holds, as a link to them."""
        address = f"{reverse('admin:imgindex_image_changelist')}?collection__id__exact={collection.pk}"
        return format_html('<a href="{}">{}</a>', address, f"{_image_count(collection):,}")

    def save_model(self, request: HttpRequest, obj: models.Collection, form: Any, change: bool) -> None:
        """Make the collection, known to every process."""
        made, _ = catalogue.collection_create(caller=Caller(obj.tenant), name=obj.name)
        obj.pk, obj.created = made.id, made.created

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What a deletion takes along, as numbers: the images may be millions, and are not listed one by one."""
        collections = list(objs)
        total = sum(map(_image_count, collections))
        lacking = set() if request.user.has_perm("imgindex.delete_image") else {"images"}
        if not self.has_delete_permission(request):
            lacking.add("collections")
        told = [f"{label(collection)} with {_image_count(collection):,} images" for collection in collections]
        return told, {"collections": len(collections), "images": total}, lacking, []

    def delete_model(self, request: HttpRequest, obj: models.Collection) -> None:
        """Delete the collection with all its images and their files."""
        catalogue.collection_delete(caller=caller_for(obj), name=obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete the selected collections; one that is gone already is no error."""
        for collection in queryset:
            try:
                self.delete_model(request, collection)
            except CollectionNotFound:
                self.message_user(request, f"{collection} was deleted before.", messages.WARNING)


def _image_count(collection: models.Collection) -> int:
    count: int = collection.image_count  # type: ignore[attr-defined]
    return count
