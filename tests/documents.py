"""What the tests of the documented endpoints share: calls, golden answers, and whether anything was kept."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from django.apps import apps
from django.conf import settings
from django.test import Client

GOLDEN = Path(__file__).parent / "golden"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def send(method: str, path: str, body: Any = None, **headers: str) -> Any:
    """A call with a JSON body, or none."""
    content = b"" if body is None else orjson.dumps(body)
    client = Client(raise_request_exception=False, headers=headers)
    return client.generic(method, path, content, content_type="application/json")


def post(path: str, body: Any = None, **headers: str) -> Any:
    return send("POST", path, body, **headers)


def key(**options: Any) -> str:
    """A new key, on the plan `unlimited` unless told otherwise."""
    from imgindex.services import access

    return access.create_key(name="test", **options)


def golden(document: str) -> dict[str, dict[str, Any]]:
    """The stored exchanges of a document by name: `method`, `path`, `body`, `status`, `type`, `answer`.

    A JSON answer stands as `settled` leaves it; of any other answer the type alone is stored.
    """
    exchanges: dict[str, dict[str, Any]] = json.loads((GOLDEN / f"{document}.json").read_text())
    return exchanges


def replayed(exchange: dict[str, Any], *, host: str, **headers: str) -> dict[str, Any]:
    """The exchange as it goes now, with `{host}` standing for the image server."""
    asked = json.loads(json.dumps([exchange["path"], exchange["body"]]).replace("{host}", host))
    answer = send(exchange["method"], asked[0], asked[1], **headers)
    kind = answer["Content-Type"]
    return {
        **exchange,
        "status": answer.status_code,
        "type": kind,
        "answer": settled(answer.json(), host=host) if kind == "application/json" else None,
    }


def settled(value: Any, *, host: str) -> Any:
    """An answer with what differs from call to call replaced by names: host, uuids, times."""
    match value:
        case dict():
            return {
                name: "<seconds>" if name == "processing time" else settled(item, host=host)
                for name, item in value.items()
            }
        case list():
            return [settled(item, host=host) for item in value]
        case str():
            return _TIME.sub("<time>", _UUID.sub("<uuid>", value.replace(host, "{host}")))
    return value


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Rows and files are as many after as before; what counts calls is not looked at."""
    before = _rows(), _files()
    yield
    assert (_rows(), _files()) == before


def _rows() -> dict[str, int]:
    counted = [model for model in apps.get_models() if model.__name__ not in {"Meter", "Usage"}]
    return {model._meta.label: model._default_manager.count() for model in counted}


def _files() -> set[Path]:
    """The files of the data folder, Postgres' own apart."""
    parts = [part for part in Path(settings.DATA_DIR).iterdir() if not part.name.startswith("postgres")]
    return {path for part in parts for path in (part, *part.rglob("*"))}
