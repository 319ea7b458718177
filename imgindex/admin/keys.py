"""API keys: the list, a new one that is shown once, its plan, its usage by day, and revocation."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from imgindex import models
from imgindex.admin.base import ServiceAdmin
from imgindex.admin.charts import chart
from imgindex.admin.forms import NO_PLAN, KeyActionForm, KeyForm
from imgindex.services import access


@admin.register(models.ApiKey)
class ApiKeyAdmin(ServiceAdmin):
    """Make keys and revoke them. Their digests are nobody's business."""

    form = KeyForm
    action_form = KeyActionForm
    list_display = ("name", "prefix", "tenant", "plan", "created", "revoked")
    list_filter = ("plan", ("revoked", admin.EmptyFieldListFilter))
    list_select_related = ("plan",)
    search_fields = ("name", "prefix", "tenant")
    ordering = ("-created",)
    actions = ("change_plan", "revoke")
    show_facets = admin.ShowFacets.NEVER

    def get_fields(self, request: HttpRequest, obj: models.ApiKey | None = None) -> tuple[str, ...]:
        """A new one has a name, a tenant and a plan; the rest is made."""
        return ("name", "tenant", "plan") if obj is None else ("name", "prefix", "tenant", "plan", "created", "revoked")

    def has_change_permission(self, request: HttpRequest, obj: models.ApiKey | None = None) -> bool:
        """A key is not edited: the list's actions give it another plan, or revoke it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.ApiKey | None = None) -> bool:
        """A revoked key stays as the record of who had access."""
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whoever may change keys may revoke them and change their plans."""
        return bool(request.user.has_perm("imgindex.change_apikey"))

    def save_model(self, request: HttpRequest, obj: models.ApiKey, form: Any, change: bool) -> None:
        """Make the key and show it, this once."""
        key = access.create_key(name=obj.name, tenant=obj.tenant, plan=obj.plan.name if obj.plan else None)
        made = models.ApiKey.objects.get(prefix=access.prefix_of(key))
        obj.pk, obj.prefix = made.pk, made.prefix
        self.message_user(
            request,
            format_html('The key is <code class="code">{}</code> - copy it now, it is not shown again.', key),
            messages.WARNING,
        )

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A key's page, with what was used of it."""
        if object_id is not None and object_id.isascii() and object_id.isdigit() and int(object_id) < 2**63:
            shown = {"usage": chart(access.key_usage_by_day(number=int(object_id)))}
            extra_context = {**(extra_context or {}), **shown}
        return super().changeform_view(request, object_id, form_url, extra_context)

    @admin.action(permissions=["revoke"], description="Change plan of selected keys")
    def change_plan(self, request: HttpRequest, queryset: Any) -> None:
        """Put the selected keys on the plan chosen beside the action."""
        # The form has been found valid already: it is how the action was chosen.
        plan = models.Plan.objects.filter(pk=request.POST["plan"]).first() if request.POST.get("plan") else None
        keys = list(queryset)
        for key in keys:
            access.change_plan(prefix=key.prefix, plan=plan.name if plan else None)
            self.log_change(request, key, f"Plan: {plan or NO_PLAN}.")
        moved = f"{len(keys)} key{' is' if len(keys) == 1 else 's are'}"
        self.message_user(request, f"{moved} on {f'the plan {plan}' if plan else NO_PLAN} now.", messages.SUCCESS)

    @admin.action(permissions=["revoke"], description="Revoke selected keys")
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        """Close the selected keys for good."""
        number = 0
        for key in queryset:
            if access.revoke_key(prefix=key.prefix):
                number += 1
                self.log_change(request, key, "Revoked.")
        self.message_user(request, f"Revoked {number} key{'' if number == 1 else 's'}.", messages.SUCCESS)
