"""API keys: the list, a new one that is shown once, and revocation."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.html import format_html

from imgindex import models
from imgindex.admin.base import ServiceAdmin
from imgindex.admin.forms import KeyForm
from imgindex.services import access


@admin.register(models.ApiKey)
class ApiKeyAdmin(ServiceAdmin):
    """Make keys and revoke them. Their digests are nobody's business."""

    form = KeyForm
    list_display = ("name", "prefix", "tenant", "created", "revoked")
    list_filter = (("revoked", admin.EmptyFieldListFilter),)
    search_fields = ("name", "prefix", "tenant")
    ordering = ("-created",)
    actions = ("revoke",)
    show_facets = admin.ShowFacets.NEVER

    def get_fields(self, request: HttpRequest, obj: models.ApiKey | None = None) -> tuple[str, ...]:
        """A new one has a name and a tenant; the rest is made."""
        return ("name", "tenant") if obj is None else ("name", "prefix", "tenant", "created", "revoked")

    def has_change_permission(self, request: HttpRequest, obj: models.ApiKey | None = None) -> bool:
        """A key is not changed but revoked."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.ApiKey | None = None) -> bool:
        """A revoked key stays as the record of who had access."""
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whoever may change keys may revoke them."""
        return bool(request.user.has_perm("imgindex.change_apikey"))

    def save_model(self, request: HttpRequest, obj: models.ApiKey, form: Any, change: bool) -> None:
        """Make the key and show it, this once."""
        key = access.create_key(name=obj.name, tenant=obj.tenant)
        made = models.ApiKey.objects.get(prefix=access.prefix_of(key))
        obj.pk, obj.prefix = made.pk, made.prefix
        self.message_user(
            request,
            format_html('The key is <code class="code">{}</code> - copy it now, it is not shown again.', key),
            messages.WARNING,
        )

    @admin.action(permissions=["revoke"], description="Revoke selected keys")
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        """Close the selected keys for good."""
        number = 0
        for key in queryset:
            if access.revoke_key(prefix=key.prefix):
                number += 1
                self.log_change(request, key, "Revoked.")
        self.message_user(request, f"Revoked {number} key{'' if number == 1 else 's'}.", messages.SUCCESS)
