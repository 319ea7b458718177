"""`/v3/detect`: what can be seen in a picture."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from imgindex.api import fields
from imgindex.api.auth import KeyOrAnonymous
from imgindex.api.v3 import schemas
from imgindex.services import pictures

_PROBLEMS = {
    (status, "application/problem+json"): schemas.ProblemDetails
    for status in (400, 401, 402, 413, 415, 422, 429, 502, 503, 504)
}


class Detect(APIView):
    """Object detection."""

    authentication_classes = (KeyOrAnonymous,)

    @extend_schema(
        operation_id="detect",
        summary="What can be seen in a picture, and where",
        tags=["detection"],
        description=(
            "Find the objects in a picture by `url`, as `base64`, or as the part `file` of multipart/form-data: "
            "people, animals, vehicles and things, 80 kinds in all (COCO). Nothing is stored."
        ),
        request={"application/json": schemas.Picture, "multipart/form-data": schemas.form_of(schemas.Picture)},
        responses={200: schemas.Detections, **_PROBLEMS},
    )
    def post(self, request: Request) -> Response:
        """What can be seen in a picture, and where."""
        asked = fields.body(request, schemas.Picture)
        found = pictures.detect_objects(source=fields.required_source(request, asked))
        objects = [
            {
                "label": item.label,
                "score": item.score,
                "box": dict(zip(("left", "top", "right", "bottom"), item.box, strict=True)),
            }
            for item in found.detections
        ]
        body = {"detector": found.detector, "width": found.width, "height": found.height, "detections": objects}
        return Response(body, headers={"X-Detector": found.detector})
