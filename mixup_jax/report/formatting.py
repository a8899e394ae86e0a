"""Formats numbers, names and settings for the page, the tables and the file names."""

import re
from collections.abc import Sequence
from typing import Any

from mixup_jax.figures.drawn import MINUS, NONE, count_seeds, number
from mixup_jax.figures.drawn import spread as spread_of
from mixup_jax.report.groups import Summary

__all__ = ["MINUS", "NONE", "count_seeds", "duration", "interval", "number", "seeds", "setting", "slug", "spread"]


def spread(summary: Summary | None, *, signed: bool = False) -> str:
    """Returns "mean ± standard deviation", the mean alone for a single seed, or a dash for None."""
    return NONE if summary is None else spread_of(summary.values, signed=signed)


def interval(ends: tuple[float, float] | None, *, signed: bool = False) -> str:
    """Returns "low to high", or an empty string for None."""
    return "" if ends is None else f"{number(ends[0], signed=signed)} to {number(ends[1], signed=signed)}"


def seeds(values: Sequence[Any]) -> str:
    """Returns the number of seeds and the seeds as text; for a single seed it says that there is no spread."""
    listed = ", ".join("unknown" if seed is None else str(seed) for seed in values)
    return f"1 seed ({listed}): no spread" if len(values) == 1 else f"{len(values)} seeds ({listed})"


def duration(seconds: float | None) -> str:
    """Returns a time span as "42 s", "12 min 3 s" or "3 h 5 min", or an empty string for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def setting(value: Any) -> str:
    """Returns a setting of a config as it is printed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return NONE
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    return str(value)


def slug(name: str, taken: set[str]) -> str:
    """Returns a safe file name for `name`, and adds it to the names in `taken`.

    It has only lower-case ASCII letters, digits and single hyphens, and at most 60 characters; a name that is
    taken gets a number at its end.
    """
    plain = (
        re.sub(r"[^a-z0-9]+", "-", name.lower().encode("ascii", "ignore").decode()).strip("-")[:60].strip("-") or "run"
    )
    unique, count = plain, 2
    while unique in taken:
        unique, count = f"{plain}-{count}", count + 1
    taken.add(unique)
    return unique
