"""A chart of calls by day, as plain SVG: no script, and no style in the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

HEIGHT = 120
STEP = 20

_GAP = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One day's bar: the upper left corner and the size in SVG units, and what it stands for."""

    day: date
    calls: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars from left to right, the size of their picture in SVG units, and the numbers beside it."""

    bars: list[Bar]
    width: int
    height: int
    most: int
    total: int


def chart(days: Sequence[tuple[date, int]]) -> Chart:
    """The chart of the calls on some days in a row; a day with any call shows at least a line."""
    most = max((calls for _, calls in days), default=0)
    bars = []
    for place, (day, calls) in enumerate(days):
        height = max(1, round(HEIGHT * calls / most)) if calls else 0
        bars.append(Bar(day, calls, place * STEP, HEIGHT - height, STEP - _GAP, height))
    return Chart(bars, STEP * len(days), HEIGHT, most, sum(calls for _, calls in days))
