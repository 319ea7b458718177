"""`/v2` and `/image_matching/v2`: 004, image matching (statements 21 to 31).

A record is the caller's own object: what it does not know of ours goes back as it came, `_url` and `_base64` too.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from imgindex import intake
from imgindex.api import errors
from imgindex.api.auth import KeyRequired
from imgindex.api.fields import json_object
from imgindex.services import pictures
from imgindex.services.describe import FromBase64, FromUrl, Source
from imgindex.types import InvalidInput
from matching.fingerprints import to_bits
from matching.types import OpenCVHashes

Record = dict[str, Any]

HASH_TYPES: tuple[pictures.HashType, ...] = ("bmh1", "phash")

# Ours to say: what a record brings along under these names is from an earlier answer.
_OURS = ("_status", "_width", "_height")


class _View(APIView):
    """A call: its `request_id`, the same at the top and in every record, and the time that it took."""

    schema = None
    authentication_classes = (KeyRequired,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()
        self.request_id, self.proc_id = str(uuid.uuid4()), str(uuid.uuid4())
        super().initial(request, *args, **kwargs)

    def get_exception_handler(self) -> Any:
        return self._error

    def _error(self, error: Exception, context: Any) -> Response:
        found = errors.problem_or_fault(error)
        status = found.status if found.status in {401, 402, 405, 429, 500, 503} else 400
        return errors.challenging(self.answer({}, status, found.detail))

    def answer(self, body: Mapping[str, Any], code: int = 200, text: str = "OK") -> Response:
        """Statement 29: a mixed result is a success to HTTP."""
        status = {"code": code, "text": text, "request_id": self.request_id, "proc_id": self.proc_id}
        statistics = {"processing time": time.perf_counter() - self.began}
        return Response({**body, "status": status, "statistics": statistics}, status=200 if code == 300 else code)

    def outcome(
        self, body: Mapping[str, Any], hashed: Sequence[pictures.Hashed], records: Sequence[Record]
    ) -> Response:
        """The answer to a call whose records may have failed: none, some or all of them."""
        failed = [
            _failure(item, record) for item, record in zip(hashed, records, strict=True) if isinstance(item, Exception)
        ]
        if len(failed) == len(hashed):
            return self.answer(body, 400, failed[0])
        return self.answer(body, 300, "MIXED_RESULT") if failed else self.answer(body)

    def described(self, record: Record, hashed: pictures.Hashed, *, always: bool = False) -> Record:
        """A record with its picture's size, or with what failed; with a status in any case if `always`."""
        if isinstance(hashed, Exception):
            return {**record, "_status": self._status(400, _failure(hashed, record))}
        status = {"_status": self._status(200, "OK")} if always else {}
        return {**record, **status, "_width": hashed.width, "_height": hashed.height}

    def _status(self, code: int, text: str) -> dict[str, Any]:
        return {"code": code, "text": text, "request_id": self.request_id}


class Ping(_View):
    """Statement 22; whatever the body is."""

    def post(self, request: Request) -> Response:
        info = {
            "_name": "Image matching service",
            "_info": "Get visual hashes, find (near-)duplicate images and rank them",
        }
        return self.answer({"_service_info": info})


class VisualHash(_View):
    """Statement 23."""

    def post(self, request: Request) -> Response:
        body = json_object(request)
        records = _records(body, without=HASH_TYPES)
        asked = HASH_TYPES if body.get("hash_type") is None else (_hash_type(body),)
        hashed = pictures.opencv_hashes(sources=[_source(record) for record in records], hash_types=asked)
        answer = [
            {**self.described(record, item), **_codes(item)} for record, item in zip(records, hashed, strict=True)
        ]
        return self.outcome({"records": answer}, hashed, records)


class RemoveDuplicates(_View):
    """Statement 24."""

    def post(self, request: Request) -> Response:
        body = json_object(request)
        records = _records(body, without=("removed_records",))
        found = pictures.duplicates(
            sources=[_source(record) for record in records], hash_type=_hash_type(body), range_=_range(body)
        )
        answer = [self.described(record, item, always=True) for record, item in zip(records, found.hashed, strict=True)]
        kept = []
        for first, *copies in found.groups:
            removed = {"removed_records": [answer[copy] for copy in copies]} if copies else {}
            kept.append({**answer[first], **removed})
        return self.outcome({"records": kept}, found.hashed, records)


class RankImages(_View):
    """Statement 25."""

    def post(self, request: Request) -> Response:
        body = json_object(request)
        query, records = _query(body), _records(body)
        found = pictures.ranking(
            query=_source(query), sources=[_source(record) for record in records], hash_type=_hash_type(body)
        )
        answer = [self.described(record, item) for record, item in zip(records, found.hashed, strict=True)]
        ranking = {
            "query_records": [self.described(query, found.query)],
            "answer_records": [answer[position] for position, _ in found.ranked],
            "answer_distances": [distance for _, distance in found.ranked],
            "skipped_records": [
                record for record, item in zip(answer, found.hashed, strict=True) if isinstance(item, Exception)
            ],
        }
        if isinstance(found.query, Exception):
            return self.answer(ranking, 400, _failure(found.query, query))
        return self.outcome(ranking, found.hashed, records)


def _records(body: Mapping[str, Any], *, without: Sequence[str] = ()) -> list[Record]:
    """The records of a call, each with an id; raises InvalidInput."""
    records = body.get("records")
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise InvalidInput("records must be a list of one or more objects.")
    if len(records) > settings.MAX_RECORDS:
        raise InvalidInput(f"records must not be more than {settings.MAX_RECORDS}.")
    return [{**_own(record, without), "_id": _id(record) or str(uuid.uuid4())} for record in records]


def _query(body: Mapping[str, Any]) -> Record:
    """The query of a ranking; it gets no id of ours."""
    query = body.get("query_record")
    if not isinstance(query, dict):
        raise InvalidInput("query_record must be an object.")
    return {**_own(query), **({"_id": _id(query)} if "_id" in query else {})}


def _own(record: Record, without: Sequence[str] = ()) -> Record:
    return {name: value for name, value in record.items() if name not in (*_OURS, *without)}


def _id(record: Record) -> Any:
    """Statement 27: integers become text; True is an int to Python alone."""
    value = record.get("_id")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _source(record: Record) -> Source | None:
    """The picture of a record. Clients that send both have fetched the URL themselves."""
    for name, kind in (("_base64", FromBase64), ("_url", FromUrl)):
        text = record.get(name)
        if isinstance(text, str) and text:
            return kind(text)
    return None


def _hash_type(body: Mapping[str, Any]) -> pictures.HashType:
    name = body.get("hash_type")
    for hash_type in HASH_TYPES:
        if name == hash_type or name is None:
            return hash_type
    raise InvalidInput("hash_type must be bmh1 or phash.")


def _range(body: Mapping[str, Any]) -> float:
    value = body.get("range")
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidInput("range must be a number that is not negative.")
    return float(value)


def _codes(hashed: pictures.Hashed) -> dict[str, str]:
    """Hashes as 0 and 1, each byte's most significant bit first."""
    if not isinstance(hashed, OpenCVHashes):
        return {}
    return {name: to_bits(code) for name, code in hashed.codes.items()}


def _failure(error: Exception, record: Record) -> str:
    """Statement 28."""
    if isinstance(error, intake.IntakeError) and isinstance(_source(record), FromUrl):
        return f"Error Loading Image: Unable to download image from '{record['_url']}', Attempts: 3"
    return f"Error Loading Image: {error}"
