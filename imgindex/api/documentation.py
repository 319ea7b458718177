"""What the documentation needs beyond the views."""

from typing import Any

Endpoint = tuple[str, str, str, Any]


def canonical_paths(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Every call answers with and without a trailing slash; the documentation shows it without."""
    return [(path.rstrip("/"), regex, method, view) for path, regex, method, view in endpoints]
