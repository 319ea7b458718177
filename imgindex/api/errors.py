"""The one table from errors to status codes, and the problem answers of `/v3` (RFC 9457)."""

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse, UnreadablePostError
from pydantic import ValidationError
from rest_framework import exceptions
from rest_framework.response import Response

from imgindex import intake, types
from matching.detect import DetectorMissing
from matching.types import CropEmpty, CropTooLarge, ImageTooLarge, NotAnImage

logger = logging.getLogger(__name__)

_OUR_FAULT = "The service failed; the cause is in its log."


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error means to the caller: a status, a stable code, and text for a person."""

    status: int
    code: str
    detail: str

    def body(self) -> dict[str, Any]:
        """The problem+json object."""
        return {
            "type": f"urn:imgindex:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }


_TABLE: dict[type[Exception], tuple[int, str]] = {
    types.InvalidInput: (400, "invalid_request"),
    types.CollectionNotFound: (404, "not_found"),
    types.ImageNotFound: (404, "not_found"),
    types.CollectionExists: (409, "collection_exists"),
    types.KeyMissing: (401, "key_required"),
    types.KeyUnknown: (401, "key_unknown"),
    types.PlanRequired: (402, "plan_required"),
    types.RateLimited: (429, "rate_limited"),
    types.QuotaExceeded: (429, "quota_exceeded"),
    types.DecodeTimeout: (422, "decode_timeout"),
    types.Busy: (503, "busy"),
    types.NotReady: (503, "not_ready"),
    NotAnImage: (422, "not_an_image"),
    ImageTooLarge: (413, "image_too_large"),
    CropTooLarge: (400, "crop_too_large"),
    CropEmpty: (400, "crop_empty"),
    DetectorMissing: (503, "detector_missing"),
    intake.TooManyBytes: (413, "image_too_large"),
    intake.EmptyImage: (400, "empty_image"),
    intake.InvalidBase64: (400, "invalid_base64"),
    intake.FetchRefused: (400, "fetch_refused"),
    intake.FetchFailed: (502, "fetch_failed"),
    intake.FetchTimeout: (504, "fetch_timeout"),
    UnreadablePostError: (400, "invalid_request"),
    exceptions.ParseError: (400, "invalid_request"),
    exceptions.MethodNotAllowed: (405, "method_not_allowed"),
    exceptions.UnsupportedMediaType: (415, "unsupported_media_type"),
    SuspiciousOperation: (400, "invalid_request"),
}


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error stands for, None for an error that is our own fault."""
    match error:
        case ValidationError():
            return Problem(400, "invalid_request", describe_validation(error))
        case RequestDataTooBig():
            return Problem(413, "image_too_large", "The body is larger than the service takes.")
        case Http404():
            return Problem(404, "not_found", "There is nothing at this address.")
        case OperationalError() | InterfaceError():
            logger.exception("the database failed")
            return Problem(503, "database_unavailable", "The database does not answer; try again in a moment.")
    for kind, (status, code) in _TABLE.items():
        if isinstance(error, kind):
            return Problem(status, code, str(getattr(error, "detail", error)))
    return None


def problem_or_fault(error: Exception) -> Problem:
    """The problem that an error stands for; one of our own making is logged and told as a 500."""
    found = problem_of(error)
    if found is None:
        logger.error("our own fault", exc_info=error)
        found = Problem(500, "internal_error", _OUR_FAULT)
    return found


def describe_validation(error: ValidationError) -> str:
    """What is wrong with a body, in a sentence for each field."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'body'}: {item['msg']}" for item in error.errors()[:5]
    )


def challenging(answer: Response) -> Response:
    """The answer, with the header that its status asks for, in whatever form its body is."""
    if answer.status_code == 401:
        answer["WWW-Authenticate"] = "Bearer"
    return answer


def problem(error: Exception, context: Any) -> Response | None:
    """DRF's exception handler: problem+json for what the table knows; the rest goes on and becomes a 500."""
    found = problem_of(error)
    if found is None:
        return None
    headers = {}
    if isinstance(error, exceptions.MethodNotAllowed):
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    return challenging(
        Response(found.body(), status=found.status, headers=headers, content_type="application/problem+json")
    )


def nothing_here(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's 404 for addresses that no route takes."""
    body = Problem(404, "not_found", "There is nothing at this address.").body()
    return JsonResponse(body, status=404, content_type="application/problem+json")


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's 400: a host name that the service does not answer to, a malformed form."""
    found = problem_of(exception) or Problem(400, "invalid_request", "The request is malformed.")
    return JsonResponse(found.body(), status=found.status, content_type="application/problem+json")


def our_fault(request: HttpRequest) -> JsonResponse:
    """Django's 500; the cause is in the log and not in the answer."""
    body = Problem(500, "internal_error", _OUR_FAULT).body()
    return JsonResponse(body, status=500, content_type="application/problem+json")
