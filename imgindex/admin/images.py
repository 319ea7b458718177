"""Images: the list, one image with its like, metadata, deletion, and indexing a new one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from imgindex import models
from imgindex.admin.base import ServiceAdmin, caller_for
from imgindex.admin.forms import DistanceForm, ImageForm, IndexForm
from imgindex.admin.listing import (
    CollectionFilter,
    EstimatingPaginator,
    FormatFilter,
    ImageList,
    label,
    matching_images,
)
from imgindex.services import catalogue
from imgindex.services.search import ById, search
from imgindex.types import Hit, Image, ImageNotFound, ServiceError
from matching.fingerprints import FINGERPRINTS, PDQ_FINGERPRINT
from matching.types import MIN_QUALITY

SIMILAR = 24
"""How many similar images a page shows."""

_SHOWN_BY_BROWSERS = {"JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"}

# Names are unique to each write, so what an address with a name answers never changes.
_FOR_EVER = "private, max-age=31536000, immutable"

_MISSING = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 90" width="120" height="90">'
    b'<rect width="120" height="90" fill="#8883"/><path d="M30 25l60 40M90 25l-60 40" stroke="#888" stroke-width="2"/>'
    b'<text x="60" y="82" font-family="sans-serif" font-size="10" fill="#888" text-anchor="middle">no file</text></svg>'
)


@dataclass(frozen=True, slots=True)
class Similar:
    """The panel of similar images: what was found, or why nothing could be."""

    form: DistanceForm
    hits: list[tuple[Hit, str, str]] = field(default_factory=list)
    """Each with the addresses of its page and of its thumbnail."""
    more: bool = False
    too_flat: bool = False
    problem: str = ""


@admin.register(models.Image)
class ImageAdmin(ServiceAdmin):
    """Browse, search and tend images."""

    form = ImageForm
    list_display = ("picture", "external_id", "collection_name", "dimensions", "format", "quality", "created")
    list_display_links = ("picture", "external_id")
    list_filter = (("collection", CollectionFilter), FormatFilter, "created")
    list_per_page = 50
    list_select_related = ("collection",)
    paginator = EstimatingPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)
    sortable_by = ("created",)
    search_fields = ("external_id", "source_url", "metadata")
    search_help_text = "Words in the id, source or metadata; key=value for a metadata key; quotes keep words together."
    readonly_fields = (
        "external_id",
        "collection_name",
        "source",
        "dimensions",
        "format",
        "file_size",
        "quality_told",
        "created",
        "updated",
        "fingerprints",
        "checksum",
    )
    fieldsets = (
        (None, {"fields": ("external_id", "collection_name", "source", "metadata")}),
        ("File", {"fields": ("dimensions", "format", "file_size", "quality_told", "created", "updated")}),
        ("Fingerprints", {"fields": ("fingerprints", "checksum")}),
    )

    # --- columns and fields

    @admin.display(description="")
    def picture(self, image: models.Image) -> SafeString:
        """The thumbnail in a box of fixed size, so that nothing moves while it loads."""
        return format_html(
            '<span class="thumbnail-box"><img src="{}" alt="Thumbnail of {}" loading="lazy" decoding="async"></span>',
            thumbnail_url(image),
            image.external_id,
        )

    @admin.display(description="collection")
    def collection_name(self, image: models.Image) -> str:
        """The collection's name, with its tenant where that matters."""
        return label(image.collection)

    @admin.display(description="size")
    def dimensions(self, image: models.Image) -> str:
        """Width and height in pixels."""
        return f"{image.width} \N{MULTIPLICATION SIGN} {image.height}"

    @admin.display(description="file size")
    def file_size(self, image: models.Image) -> str:
        """The size of the file."""
        return f"{filesizeformat(image.size)} ({image.size:,} bytes)"

    @admin.display(description="source")
    def source(self, image: models.Image) -> str:
        """Where the picture came from; a link if a browser may follow it."""
        if _is_web_address(image.source_url):
            return format_html('<a href="{0}" rel="noopener noreferrer">{0}</a>', image.source_url)
        return image.source_url or "-"

    @admin.display(description="quality")
    def quality_told(self, image: models.Image) -> str:
        """PDQ's quality, and what a low one means."""
        if image.quality >= MIN_QUALITY:
            return f"{image.quality} of 100"
        return (
            f"{image.quality} of 100. Below {MIN_QUALITY} a picture has too little texture for its fingerprints to mean"
            " anything: it is found by equal bytes alone."
        )

    @admin.display(description="fingerprints")
    def fingerprints(self, image: models.Image) -> SafeString:
        """Every fingerprint in hexadecimal; one click selects one."""
        rows = ((name, getattr(image, name).hex()) for name in FINGERPRINTS)
        return format_html(
            '<dl class="codes">{}</dl>', format_html_join("", "<dt>{}</dt><dd><code>{}</code></dd>", rows)
        )

    @admin.display(description="SHA-256")
    def checksum(self, image: models.Image) -> SafeString:
        """The digest of the file; one click selects it."""
        return format_html('<code class="code">{}</code>', image.sha256)

    # --- the list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, under a title that promises no more than browsing."""
        return super().changelist_view(request, {"title": "Images", **(extra_context or {})})

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ImageList]:
        """The list without wide columns."""
        return ImageList

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """The images that a search finds; each row is there once."""
        return (matching_images(queryset, search_term) if search_term.strip() else queryset), False

    # --- one image

    def render_change_form(  # noqa: PLR0917 - ModelAdmin's own
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: models.Image | None = None,
    ) -> HttpResponse:
        """The page of one image: the picture large, its fields, and what looks like it."""
        if obj is not None:
            context |= {
                "title": "Image",
                "picture_url": _large_url(obj),
                "thumbnail_url": thumbnail_url(obj),
                "original_url": original_url(obj) if obj.original else "",
                "similar": self._similar(request, obj),
                "min_quality": MIN_QUALITY,
                "bits": PDQ_FINGERPRINT.bits,
                "show_save_and_add_another": False,
            }
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _similar(self, request: HttpRequest, image: models.Image) -> Similar:
        form = DistanceForm(request.GET)
        if form.radius is None:
            return Similar(form)
        try:
            answer = search(
                caller=caller_for(image.collection),
                collection=image.collection.name,
                query=ById(image.external_id),
                max_distance=form.radius,
                limit=SIMILAR + 2,  # itself, and one more that tells whether there are more
            )
        except ServiceError as exc:
            return Similar(form, problem=str(exc))
        others = [hit for hit in answer.hits if hit.image.pk != image.pk]
        hits = [(hit, page_url(hit.image), thumbnail_url(hit.image)) for hit in others[:SIMILAR]]
        return Similar(form, hits, more=len(others) > SIMILAR, too_flat=answer.searched_by == "bytes")

    def save_model(self, request: HttpRequest, obj: models.Image, form: Any, change: bool) -> None:
        """Write the metadata, if they changed, so that every process knows."""
        if form.has_changed():
            catalogue.image_patch(
                caller=caller_for(obj.collection),
                collection=obj.collection.name,
                image_id=obj.external_id,
                metadata=form.cleaned_data["metadata"],
            )

    def delete_model(self, request: HttpRequest, obj: models.Image) -> None:
        """Delete one image from the index of every process, with its files."""
        catalogue.image_delete(
            caller=caller_for(obj.collection), collection=obj.collection.name, image_id=obj.external_id
        )

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete the selected images; one that is gone already is no error."""
        for image in queryset:
            try:
                self.delete_model(request, image)
            except ImageNotFound:
                continue

    # --- a new image

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Index a picture. Fetching and decoding fail often enough that the form must be able to say so."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        posted = request.method == "POST"
        form = IndexForm(request.POST, request.FILES) if posted else IndexForm()
        if form.is_valid() and (written := form.index()) is not None:
            image = models.Image.objects.get(pk=written.image.pk)
            self.log_addition(request, image, [{"added": {}}])
            verb = "Indexed" if written.created else "Replaced"
            self.message_user(request, f"{verb} {image.external_id} (change {written.seq}).", messages.SUCCESS)
            return HttpResponseRedirect(page_url(image))
        context = {
            **self.admin_site.each_context(request),
            "title": "Index an image",
            "subtitle": None,
            "adminform": helpers.AdminForm(
                cast("Any", form), [(None, {"fields": list(form.fields)})], {}, model_admin=self
            ),
            "errors": helpers.AdminErrorList(cast("Any", form), []),
            "media": self.media + form.media,
            "original": None,
            "object_id": None,
            "is_popup": False,
            "to_field": None,
            "inline_admin_formsets": [],
            "show_save_and_add_another": False,
            "show_save_and_continue": False,
            **(extra_context or {}),
        }
        return self.render_change_form(request, context, add=True, form_url=form_url)

    # --- pictures

    def get_urls(self) -> list[URLPattern]:
        """The usual addresses, and those of the pictures."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/thumbnail/", wrap(self.thumbnail_view, cacheable=True), name="imgindex_image_thumbnail"),
            path("<int:pk>/original/", wrap(self.original_view, cacheable=True), name="imgindex_image_original"),
            *super().get_urls(),
        ]

    def thumbnail_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The thumbnail, for those who may see the image in the admin."""
        return self._file(request, pk, "thumbnail", catalogue.thumbnail)

    def original_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The kept original, for those who may see the image in the admin."""
        return self._file(request, pk, "original", catalogue.original)

    def _file(self, request: HttpRequest, pk: int, kind: str, read: Callable[..., bytes]) -> HttpResponse:
        image = models.Image.objects.select_related("collection").filter(pk=pk).first()
        if not self.has_view_or_change_permission(request, image):
            raise PermissionDenied
        try:
            if image is None or not getattr(image, kind):
                return _missing()
            content = read(
                caller=caller_for(image.collection), collection=image.collection.name, image_id=image.external_id
            )
        except ServiceError:
            return _missing()
        return HttpResponse(
            content,
            content_type="image/jpeg" if kind == "thumbnail" else f"image/{image.format.lower()}",
            headers={
                "Cache-Control": _FOR_EVER
                if request.GET.get("v") == _key(getattr(image, kind))
                else "private, no-cache",
                # The original's bytes are a stranger's.
                "Content-Security-Policy": "default-src 'none'; sandbox",
            },
        )


def _missing() -> HttpResponse:
    """A picture that says that there is none."""
    return HttpResponse(_MISSING, status=404, content_type="image/svg+xml", headers={"Cache-Control": "no-store"})


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)


def page_url(image: models.Image | Image) -> str:
    """The address of an image's page."""
    return reverse("admin:imgindex_image_change", args=[image.pk])


def thumbnail_url(image: models.Image | Image) -> str:
    """The address of an image's thumbnail, another one whenever the picture is another one."""
    return _file_url("thumbnail", image.pk, image.thumbnail)


def original_url(image: models.Image) -> str:
    """The address of an image's kept original."""
    return _file_url("original", image.pk, image.original)


def _large_url(image: models.Image) -> str:
    shown = image.original and image.format in _SHOWN_BY_BROWSERS
    return original_url(image) if shown else thumbnail_url(image)


def _file_url(kind: str, pk: int, name: str) -> str:
    return f"{reverse(f'admin:imgindex_image_{kind}', args=[pk])}?{urlencode({'v': _key(name)})}"


def _key(name: str) -> str:
    return PurePosixPath(name).stem
