"""Plans, which are edited here, and the usage, which is only looked at."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse

from imgindex import models
from imgindex.admin.base import ForgivingAdmin, ServiceAdmin
from imgindex.admin.charts import Chart, chart
from imgindex.services import access


@admin.register(models.Plan)
class PlanAdmin(ForgivingAdmin):
    """Edit plans. A plan is a row and nothing else, read anew for each call, so it is saved right here."""

    list_display = ("name", "monthly", "per_second", "active")
    ordering = ("monthly", "name")
    fields = ("name", "monthly", "per_second", "active")

    def get_readonly_fields(self, request: HttpRequest, obj: models.Plan | None = None) -> tuple[str, ...]:
        """Commands and the service know a plan by its name."""
        return () if obj is None else ("name",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Say what an empty limit and the plans that the service itself uses mean."""
        texts = {
            "monthly": "In a calendar month (UTC). Empty: no limit.",
            "per_second": "Empty: no limit.",
            "active": "A key on a plan that is not active is answered with 402. "
            f"While '{access.ANONYMOUS}' is not active, calls without a key are refused where they count.",
        }
        return super().get_form(request, obj, change, help_texts=texts, **kwargs)


@admin.register(models.Usage)
class UsageAdmin(ServiceAdmin):
    """Look at the calls of each key and each anonymous client by day."""

    list_display = ("day", "who", "calls")
    list_display_links = None
    date_hierarchy = "day"
    ordering = ("-day", "-calls")
    search_fields = ("account",)
    show_full_result_count = False
    change_list_template = "admin/imgindex/usage/change_list.html"

    @admin.display(description="key or client")
    def who(self, usage: models.Usage) -> str:
        """The key by name, a client by the hash of its address."""
        kind, _, rest = usage.account.partition(":")
        if kind != "key":
            return f"client {rest}"
        key = models.ApiKey.objects.filter(pk=rest).first()
        return str(key) if key else usage.account

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, under the chart of all calls."""
        shown = {"title": "Usage", "usage": _all_by_day()}
        return super().changelist_view(request, {**(extra_context or {}), **shown})

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Calls are counted, not entered."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Usage | None = None) -> bool:
        """What was counted stands."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Usage | None = None) -> bool:
        """The service clears old rows away itself."""
        return False


def _all_by_day() -> Chart:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in reversed(range(access.CHART_DAYS))]
    rows = models.Usage.objects.filter(day__gte=days[0]).order_by().values("day").annotate(total=Sum("calls"))
    calls = dict(rows.values_list("day", "total"))
    return chart([(day, calls.get(day, 0)) for day in days])
