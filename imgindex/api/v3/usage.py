"""`GET /v3/usage`: what the caller has used of its plan."""

from datetime import date

from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from imgindex.api.auth import key_of
from imgindex.api.client import address_of
from imgindex.api.v3 import schemas
from imgindex.services import access
from imgindex.types import Plan


class PlanLimits(BaseModel):
    """A plan; a limit of null is none."""

    name: str
    active: bool
    calls_per_month: int | None
    calls_per_second: int | None


class Month(BaseModel):
    """The calls of the current month."""

    month: str = Field(description="Year and month, UTC, such as 2026-11.")
    calls: int
    remaining: int | None = Field(description="null where the month is not limited.")


class Day(BaseModel):
    """The calls of a day."""

    day: date = Field(description="UTC.")
    calls: int


class UsageOfCaller(BaseModel):
    """What the caller has used."""

    plan: PlanLimits | None = Field(description="null where the key has none.")
    month: Month
    days: list[Day] = Field(description="The last 30 days, today last.")


class Usage(APIView):
    """What the caller has used."""

    @extend_schema(
        operation_id="usage",
        summary="What was used of the plan",
        tags=["usage"],
        description="The metered calls of the key, or of the client address where no key is sent. This call is free.",
        responses={
            200: UsageOfCaller,
            **{(status, "application/problem+json"): schemas.ProblemDetails for status in (401, 503)},
        },
    )
    def get(self, request: Request) -> Response:
        """What was used of the plan."""
        report = access.usage_report(key=key_of(request), address=address_of(request))
        limit = report.plan.monthly if report.plan else None
        return Response(
            {
                "plan": _plan(report.plan),
                "month": {
                    "month": f"{report.month:%Y-%m}",
                    "calls": report.in_month,
                    "remaining": None if limit is None else max(0, limit - report.in_month),
                },
                "days": [{"day": day, "calls": calls} for day, calls in report.days],
            }
        )


def _plan(plan: Plan | None) -> dict[str, str | int | bool | None] | None:
    if plan is None:
        return None
    return {
        "name": plan.name,
        "active": plan.active,
        "calls_per_month": plan.monthly,
        "calls_per_second": plan.per_second,
    }
