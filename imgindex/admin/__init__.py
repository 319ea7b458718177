"""Browse and tend the index in Django's admin: images, collections, API keys, plans and usage.

It reads through the models and writes through the services, so that a change made here reaches the index of every
process and leaves no file behind.
"""

from django.contrib import admin
from django.utils.functional import lazy

from imgindex import models
from imgindex.admin import collections, images, keys, plans
from imgindex.admin.listing import EstimatingPaginator

__all__ = ["collections", "images", "keys", "plans"]


def _summary() -> str:
    counted = EstimatingPaginator(models.Image.objects.order_by("pk"), per_page=1)
    number = models.Collection.objects.count()
    return f"{counted.summary} image{_s(counted.count)} in {number:,} collection{_s(number)}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"


admin.site.site_header = "imgindex"
admin.site.site_title = "imgindex"
# Few pages, and wide tables: the breadcrumbs lead everywhere.
admin.site.enable_nav_sidebar = False
# There is no page at "/" to view.
admin.site.site_url = None
# Read again whenever the index page is shown.
admin.site.index_title = lazy(_summary, str)()
