"""Results as an aligned table that is Markdown as well, and a few figures made of many."""

import statistics
from collections.abc import Sequence

Cell = str | int | float


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """An aligned Markdown table; the first column is text, the others are set to the right."""
    cells = [list(head), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]
    lines = [
        "| " + " | ".join(_set(cell, widths[i], left=i == 0) for i, cell in enumerate(row)) + " |" for row in cells
    ]
    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` per cent of the values do not exceed; nan of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * len(ordered)) // 100) - 1))]


def p50_p99(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    return (statistics.median(values) if values else float("nan")), percentile(values, 99)


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:,.3f}" if abs(cell) < 1 else f"{cell:,.2f}" if abs(cell) < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _set(cell: str, width: int, *, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)
