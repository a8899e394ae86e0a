"""Runs that differ in their seed alone, as one group with a mean and a spread."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixup_jax.errors import InputError
from mixup_jax.methods.method import Method
from mixup_jax.report.quantities import Quantity, value
from mixup_jax.report.runs import Run
from mixup_jax.runs.provenance import DERIVED


@dataclass(frozen=True)
class Summary:
    """One number of a group.

    Attributes:
      mean: over the runs that have it.
      std: sample standard deviation over them (n - 1 in the denominator); None for a single one.
      n_seeds: how many runs have it.
      values: theirs, in the order of the group's runs.
    """

    mean: float
    std: float | None
    n_seeds: int
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Runs of one config and different seeds.

    Attributes:
      name: unique among the groups of a report.
      runs: in order of their seeds.
    """

    name: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the lowest seed, which speaks for what all have in common."""
        return self.runs[0]

    @property
    def seeds(self) -> tuple[Any, ...]:
        """The seeds, None where a config has none."""
        return tuple(run.setting("seed") for run in self.runs)

    def run_name(self, run: Run) -> str:
        """Returns the name of one of its runs, unique among the runs of a report."""
        return f"{self.name}, seed {run.setting('seed', default='unknown')}"

    def summary(self, quantity: Quantity) -> Summary | None:
        """Returns mean and spread of a number, or None where no run has it."""
        values = [found for run in self.runs if (found := value(run, quantity)) is not None]
        return summarise(values) if values else None


def summarise(values: Sequence[float]) -> Summary:
    """Returns mean and sample standard deviation of one or more finite values."""
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values)
    std = math.sqrt(spread / (len(values) - 1)) if len(values) > 1 else None
    return Summary(mean, std, len(values), tuple(values))


def make_groups(runs: Sequence[Run]) -> list[Group]:
    """Groups runs whose configs are equal but for `seed`, and that kept the same checkpoint.

    Groups come in the order of their first runs; those of one experiment name are told apart by
    the settings that differ.

    Raises:
      InputError: two runs share config and seed, and so would count as two seeds without being so.
    """
    gathered: dict[str, list[Run]] = {}
    for run in runs:
        gathered.setdefault(_identity(run), []).append(run)
    members = [sorted(group, key=_seed_order) for group in gathered.values()]
    for group in members:
        for one, other in itertools.pairwise(group):
            if one.setting("seed") == other.setting("seed"):
                raise InputError(
                    f"run folders {one.folder} and {other.folder} have the same config and seed "
                    f"({one.setting('seed')!r}); give one of them, since they are not two seeds"
                )
    names = _unique_names([group[0] for group in members])
    return [Group(name, tuple(group)) for name, group in zip(names, members, strict=True)]


def _identity(run: Run) -> str:
    config = {key: setting for key, setting in run.config.items() if key != "seed"}
    checkpoint = run.evaluation.get("checkpoint")
    # A checkpoint named by its number differs from seed to seed; last and best are choices.
    choice = checkpoint if checkpoint in ("last", "best") else None
    return json.dumps([config, choice, run.test_name], sort_keys=True)


def _seed_order(run: Run) -> tuple[bool, float, str]:
    seed = run.setting("seed")
    numeric = isinstance(seed, int | float)
    return (not numeric, float(seed) if numeric else 0.0, str(seed))


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested settings as one dict with keys such as "method.mixup_alpha"."""
    if not isinstance(settings, dict):
        return {prefix.rstrip("."): settings}
    return {key: item for name in settings for key, item in flatten(settings[name], f"{prefix}{name}.").items()}


def differing(one: Run, other: Run, ignored: Sequence[str] = ()) -> list[str]:
    """Returns the settings in which two runs differ, but for those whose key or first part is `ignored`."""
    first, second = flatten(one.config), flatten(other.config)
    keys = sorted(set(first) | set(second))
    kept = [key for key in keys if key not in ignored and key.split(".")[0] not in ignored]
    return [key for key in kept if first.get(key) != second.get(key)]


def _unique_names(leaders: Sequence[Run]) -> list[str]:
    plain = [str(run.setting("experiment") or run.name_of_folder or "run") for run in leaders]
    names: list[str] = []
    for run, name in zip(leaders, plain, strict=True):
        twins = [twin for twin, other in zip(leaders, plain, strict=True) if other == name and twin is not run]
        if twins:
            keys = sorted({key for twin in twins for key in differing(run, twin, ("seed", "notes", "experiment"))})
            settings = flatten(run.config)
            told = ", ".join(f"{key.split('.')[-1]} {settings.get(key)}" for key in keys[:3])
            name = f"{name} ({told or 'checkpoint ' + str(run.evaluation.get('checkpoint'))})"
        unique, count = name, 2
        while unique in names:
            unique, count = f"{name} [{count}]", count + 1
        names.append(unique)
    return names


def kind(run: Run) -> str:
    """Returns a key of `method.KINDS`: what the paper's claims take a run for.

    A run is "other" if its config has no usable method, or if it predicts otherwise than by its network alone (an
    ensemble, Monte Carlo dropout).
    """
    given = run.setting("method")
    if not isinstance(given, dict) or run.setting(DERIVED):
        return "other"
    try:
        return Method(**{name: given[name] for name in Method.__dataclass_fields__ if name in given}).kind
    except (InputError, TypeError):  # a config of someone else's
        return "other"
