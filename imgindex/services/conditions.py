"""What `key=value` asks of metadata, wherever a person or a URL writes it."""

from typing import Any

import orjson

from imgindex.types import Metadata


def key_is(key: str, value: str, *, literal: bool = False) -> list[Metadata]:
    """The objects of which metadata must contain at least one.

    The value may be the text, or the number, truth value or null of that spelling unless it is `literal`; a dot in the
    key may be part of it or a step inwards.
    """
    readings = [value] if literal else _readings(value)
    return [placed for reading in readings for placed in _placements(key, reading)]


def _readings(text: str) -> list[Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [text]
    return [text] if isinstance(value, str | list | dict) else [text, value]


def _placements(key: str, value: Any) -> list[Metadata]:
    nested: Any = value
    for step in reversed(key.split(".")):
        nested = {step: nested}
    return [nested] if "." not in key else [nested, {key: value}]
