"""The whole public surface on one page."""

from django.contrib import admin
from django.urls import path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from imgindex.api import errors, ops, v1, v2
from imgindex.api.legacy import comparison, image_tools, search_engine
from imgindex.api.v3 import detect, usage
from imgindex.api.v3 import views as v3

handler400 = errors.bad_request
handler404 = errors.nothing_here
handler500 = errors.our_fault

MATCHING = r"^(?:image_matching/)?v2"
COLLECTION = r"^v3/collections/(?P<collection>[^/]+)"

urlpatterns = [
    # Operations
    re_path(r"^live/?$", ops.Live.as_view()),
    re_path(r"^ready/?$", ops.Ready.as_view()),
    # 000 image tools
    re_path(r"^get_image_hash/?$", image_tools.ImageHash.as_view()),
    re_path(r"^center_crop/?$", image_tools.CentreCrop.as_view()),
    re_path(r"^get_SIFT_difference/?$", image_tools.SiftDifference.as_view()),
    # 001 perceptual hash API
    re_path(r"^v1/hash/?$", v1.Hash.as_view()),
    re_path(r"^v1/compare/?$", v1.Compare.as_view()),
    re_path(r"^v1/meta/?$", v1.Meta.as_view()),
    # 002 image comparison
    re_path(r"^compare/?$", comparison.Compare.as_view()),
    # 003 image search engine
    re_path(r"^(?:heartbeat|api)/?$", search_engine.Heartbeat.as_view()),
    re_path(r"^(?:post_image_to_index|api/images)/?$", search_engine.IndexImage.as_view()),
    re_path(r"^(?:search_simm?ilar_images|api/images/search)/?$", search_engine.SearchImages.as_view()),
    re_path(r"^(?:run_object_detection|api/images/object_detection)/?$", search_engine.DetectObjects.as_view()),
    # 004 image matching
    re_path(rf"{MATCHING}/ping/?$", v2.Ping.as_view()),
    re_path(rf"{MATCHING}/visual_hash/?$", v2.VisualHash.as_view()),
    re_path(rf"{MATCHING}/remove_duplicates/?$", v2.RemoveDuplicates.as_view()),
    re_path(rf"{MATCHING}/rank_images/?$", v2.RankImages.as_view()),
    # Our own API. An image's id may hold slashes, and its last character may be one.
    re_path(r"^v3/collections/?$", v3.Collections.as_view()),
    re_path(rf"{COLLECTION}/?$", v3.Collection.as_view()),
    re_path(rf"{COLLECTION}/images/?$", v3.Images.as_view()),
    re_path(rf"{COLLECTION}/images/(?P<image_id>(?s:.+))\Z", v3.Image.as_view()),
    re_path(rf"{COLLECTION}/thumbnails/(?P<image_id>(?s:.+))\Z", v3.Thumbnail.as_view()),
    re_path(rf"{COLLECTION}/search/?$", v3.Search.as_view()),
    re_path(r"^v3/detect/?$", detect.Detect.as_view()),
    re_path(r"^v3/usage/?$", usage.Usage.as_view()),
    re_path(r"^openapi\.json$", SpectacularJSONAPIView.as_view(), name="openapi"),
    re_path(
        r"^docs/?$", SpectacularSwaggerView.as_view(url_name="openapi", http_method_names=["get", "head"]), name="docs"
    ),
    # People
    path("", RedirectView.as_view(pattern_name="docs")),
    path("admin/", admin.site.urls),
]
