"""What the admin pages share: writes that go through services."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ERROR_FLAG
from django.db import DataError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import SimpleTemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect

from imgindex import models
from imgindex.types import Caller, ServiceError


def caller_for(collection: models.Collection) -> Caller:
    """Staff act on every tenant's behalf: the caller is the tenant to whom the collection belongs."""
    return Caller(collection.tenant)


class ForgivingAdmin(admin.ModelAdmin):
    """An admin whose list takes an address or a form that makes no sense for one without it."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; what makes no sense in its address leads to the list without it, as elsewhere in the admin."""
        try:
            page = super().changelist_view(request, extra_context)
            # Rendering asks the database for the rows.
            return page.render() if isinstance(page, SimpleTemplateResponse) else page
        except (DataError, ValueError):
            return HttpResponseRedirect(self.list_url(f"{ERROR_FLAG}=1"))

    def list_url(self, query: str = "") -> str:
        """The address of the list, with a query string if one is given."""
        address = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        return f"{address}?{query}" if query else address


class ServiceAdmin(ForgivingAdmin):
    """An admin whose writes are service calls; what a service refuses becomes a message on the list page.

    ModelAdmin runs `changeform_view` and `delete_view` in one transaction. A service's write opens its own, which must
    be the outermost: it is acknowledged only once it is durable, and it holds the change log's lock until it commits,
    which an outer transaction would stretch over the whole page. So the views are entered behind that transaction,
    through the methods that it wraps; each service call is one transaction, and the admin's own log entry another.
    """

    class Media:
        css: ClassVar = {"all": ("imgindex/admin.css",)}

    @method_decorator(csrf_protect)
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show or save one object."""
        view: Callable[..., HttpResponse] = self._changeform_view  # type: ignore[attr-defined]
        return self._refusals_told(request, view, object_id, form_url, extra_context)

    @method_decorator(csrf_protect)
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask before one object is deleted, or delete it."""
        view: Callable[..., HttpResponse] = self._delete_view  # type: ignore[attr-defined]
        return self._refusals_told(request, view, object_id, extra_context)

    def _refusals_told(self, request: HttpRequest, view: Callable[..., HttpResponse], *args: Any) -> HttpResponse:
        try:
            return view(request, *args)
        except ServiceError as exc:
            # Somebody else was faster: the image is gone, the name is taken.
            self.message_user(request, str(exc), messages.ERROR)
            return HttpResponseRedirect(self.list_url())
