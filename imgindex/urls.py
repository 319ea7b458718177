"""The whole public surface on one page."""

from django.contrib import admin
from django.urls import path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from imgindex.api import errors, legacy, ops
from imgindex.api.v3 import views as v3

handler400 = errors.bad_request
handler404 = errors.nothing_here
handler500 = errors.our_fault

COLLECTION = r"^v3/collections/(?P<collection>[^/]+)"

urlpatterns = [
    # Operations
    re_path(r"^live/?$", ops.Live.as_view()),
    re_path(r"^ready/?$", ops.Ready.as_view()),
    # 003 image search engine
    re_path(r"^(?:heartbeat|api)/?$", legacy.Heartbeat.as_view()),
    re_path(r"^(?:post_image_to_index|api/images)/?$", legacy.IndexImage.as_view()),
    re_path(r"^(?:search_simm?ilar_images|api/images/search)/?$", legacy.SearchImages.as_view()),
    # Our own API. An image's id may hold slashes, and its last character may be one.
    re_path(r"^v3/collections/?$", v3.Collections.as_view()),
    re_path(rf"{COLLECTION}/?$", v3.Collection.as_view()),
    re_path(rf"{COLLECTION}/images/?$", v3.Images.as_view()),
    re_path(rf"{COLLECTION}/images/(?P<image_id>(?s:.+))\Z", v3.Image.as_view()),
    re_path(rf"{COLLECTION}/thumbnails/(?P<image_id>(?s:.+))\Z", v3.Thumbnail.as_view()),
    re_path(rf"{COLLECTION}/search/?$", v3.Search.as_view()),
    re_path(r"^openapi\.json$", SpectacularJSONAPIView.as_view(), name="openapi"),
    re_path(
        r"^docs/?$", SpectacularSwaggerView.as_view(url_name="openapi", http_method_names=["get", "head"]), name="docs"
    ),
    # People
    path("", RedirectView.as_view(pattern_name="docs")),
    path("admin/", admin.site.urls),
]
