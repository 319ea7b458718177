"""002, the image comparison (statements 14 to 16)."""

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from imgindex import intake
from imgindex.api import errors
from imgindex.api.fields import json_object
from imgindex.api.legacy.base import Document
from imgindex.services import pictures
from imgindex.services.describe import FromUrl
from imgindex.types import InvalidInput


class Compare(Document):
    """Where two pictures differ, as a PNG of black and white; the mean squared error is in the header."""

    def error(self, error: Exception, found: errors.Problem) -> Response:
        """The single key `error`; whatever kept a picture from arriving is a 502."""
        if isinstance(error, intake.IntakeError):
            return Response({"error": f"Error downloading images: {found.detail}"}, status=502)
        return Response({"error": found.detail}, status=found.status)

    def post(self, request: Request) -> HttpResponse:
        body = json_object(request)
        first, second = body.get("image_url1"), body.get("image_url2")
        if not (first and isinstance(first, str) and second and isinstance(second, str)):
            raise InvalidInput("Both image URLs are required.")
        marked, error = pictures.difference(first=FromUrl(first), second=FromUrl(second))
        return HttpResponse(marked, content_type="image/png", headers={"X-Image-MSE": repr(error)})
