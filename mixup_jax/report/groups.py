"""Groups of runs that differ only in their seed, with mean and spread."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from mixup_jax.errors import InputError
from mixup_jax.figures.drawn import mean_and_std
from mixup_jax.figures.epochs import Outcomes
from mixup_jax.figures.style import on_one_line
from mixup_jax.metrics.binning import Bins
from mixup_jax.report.quantities import Quantity, interval, value
from mixup_jax.report.runs import RunRecord

NAMES_AND_NOTES = ("seed", "experiment", "notes", "parallel", "log_every_steps", "loggers", "tensorboard")
"""Settings that do not change results, and the seed."""
NOT_TRAINING = (*NAMES_AND_NOTES, "method", "evaluation")
"""Settings in which compared groups may differ without a remark."""


@dataclass(frozen=True)
class Summary:
    """One number of a group: its values in the runs that have it, in their order, their mean and their number.

    `std` is their sample standard deviation (n - 1 in the denominator); None for a single run.
    """

    mean: float
    std: float | None
    n_seeds: int
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Runs of one config and different seeds, in the order of their seeds; no other group of a report has its name."""

    name: str
    runs: tuple[RunRecord, ...]

    @property
    def first(self) -> RunRecord:
        """The run with the lowest seed, which stands for the settings that all runs share."""
        return self.runs[0]

    @property
    def seeds(self) -> tuple[Any, ...]:
        """The seeds; None for a config without a seed."""
        return tuple(run.seed for run in self.runs)

    def run_name(self, run: RunRecord) -> str:
        """Returns the name of one of its runs, unique among the runs of a report."""
        if run.config is None and len(self.runs) == 1:  # of a file nobody knows the seed
            return self.name
        return f"{self.name}, seed {'unknown' if run.seed is None else run.seed}"

    def summary(self, quantity: Quantity) -> Summary | None:
        """Returns mean and spread of a number, or None if no run has it."""
        values = [found for run in self.runs if (found := value(run, quantity)) is not None]
        return summarise(values) if values else None

    @property
    def alpha(self) -> float:
        """The alpha of its mixup; 0 without mixup."""
        return self.first.config.method.mixup_alpha if self.first.config else 0.0

    @property
    def mixed(self) -> tuple[bool, bool]:
        """Whether inputs and labels are mixed."""
        config = self.first.config
        if config is None or not config.method.mixup_alpha:
            return False, False
        return config.method.mix_inputs, config.method.mix_labels

    def logged(self, key: str) -> dict[str, list[tuple[float, float]]]:
        """Returns the (epoch, value) pairs by seed, or nothing where the seeds do not share two epochs."""
        by_seed = {str(run.seed): run.logged(key) for run in self.runs}
        shared = set.intersection(*({epoch for epoch, _ in pairs} for pairs in by_seed.values()))
        return by_seed if len(shared) > 1 else {}

    def outcomes_by_epoch(self) -> dict[int, Outcomes]:
        """Returns confidence and correctness of the validation examples, by epoch, of the seeds that recorded epochs.

        The epochs are those that all of these seeds recorded.
        """
        recorded = [run.epochs for run in self.runs if run.epochs]
        shared = set.intersection(*map(set, recorded)) if recorded else set()
        return {
            epoch: [(epochs[epoch].confidence, epochs[epoch].correct) for epochs in recorded]
            for epoch in sorted(shared)
        }


def summarise(values: Sequence[float]) -> Summary:
    """Returns mean and sample standard deviation of one or more finite values."""
    mean, std = mean_and_std(values)
    return Summary(mean, std, len(values), tuple(values))


def reach(group: Group, quantity: Quantity) -> tuple[float, float] | None:
    """Returns a 95 % interval of a group's number, or None if there is none.

    Of several seeds it is Student's interval of the mean over the seeds; of a single seed, the stored interval over
    test examples.
    """
    summary = group.summary(quantity)
    if summary is None:
        return None
    if summary.std is None:
        return interval(group.first, quantity) if len(group.runs) == 1 else None
    # Imported here, because it takes a fifth of a second to load.
    from scipy.special import stdtrit

    ends = float(stdtrit(summary.n_seeds - 1, 0.975)) * summary.std / summary.n_seeds**0.5
    return summary.mean - ends, summary.mean + ends


def best_of(groups: Sequence[Group], quantity: Quantity) -> list[Group]:
    """Returns the group with the best mean, and those whose 95 % interval overlaps with its; none without an aim.

    Overlapping intervals do not say that two groups are equal; they say that these runs do not tell them apart.
    """
    found = summaries_of(groups, quantity)
    if quantity.aim not in ("lower", "higher", "near 0") or len(found) < 2:
        return []
    sign = -1 if quantity.aim == "higher" else 1
    worth = {group: abs(one.mean) if quantity.aim == "near 0" else sign * one.mean for group, one in found.items()}
    first = min(worth, key=worth.__getitem__)
    ends = {group: reach(group, quantity) for group in found}

    def tied(group: Group) -> bool:
        one, other = ends[group], ends[first]
        if one is None or other is None:
            return worth[group] == worth[first]
        return one[0] <= other[1] and other[0] <= one[1]

    return [group for group in found if tied(group)]


def make_groups(runs: Sequence[RunRecord]) -> list[Group]:
    """Groups runs whose configs are equal except for `seed`, and whose evaluated checkpoint is of the same kind.

    Groups come in the order of their first runs.  The names of groups with the same experiment name include
    the settings that differ.

    Raises:
      InputError: two runs have the same config and seed, so they are not two seeds.
    """
    gathered: dict[str, list[RunRecord]] = {}
    for run in runs:
        gathered.setdefault(_identity(run), []).append(run)
    members = [sorted(group, key=_seed_order) for group in gathered.values()]
    for group in members:
        for one, other in itertools.pairwise(group):
            if one.seed == other.seed:
                raise InputError(
                    f"run folders {one.folder} and {other.folder} have the same config and seed "
                    f"({one.seed!r}); give one of them, since they are not two seeds"
                )
    names = _unique_names([group[0] for group in members])
    return [Group(name, tuple(group)) for name, group in zip(names, members, strict=True)]


def _identity(run: RunRecord) -> str:
    config = {key: setting for key, setting in run.recorded.items() if key != "seed"}
    return json.dumps([config, run.checkpoint, run.test_name], sort_keys=True)


def _seed_order(run: RunRecord) -> tuple[bool, float, str]:
    seed = run.seed
    numeric = isinstance(seed, int | float)
    return (not numeric, float(seed) if numeric else 0.0, str(seed))


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested settings as one dict with keys such as "method.mixup_alpha"."""
    if not isinstance(settings, dict):
        return {prefix.rstrip("."): settings}
    return {key: item for name in settings for key, item in flatten(settings[name], f"{prefix}{name}.").items()}


def differing(one: RunRecord, other: RunRecord, ignored: Sequence[str] = ()) -> list[str]:
    """Returns the settings in which two runs differ, except those whose key or its first part is in `ignored`."""
    first, second = flatten(one.recorded), flatten(other.recorded)
    keys = sorted(set(first) | set(second))
    kept = [key for key in keys if key not in ignored and key.split(".")[0] not in ignored]
    return [key for key in kept if first.get(key) != second.get(key)]


def _unique_names(leaders: Sequence[RunRecord]) -> list[str]:
    plain = [str(run.recorded.get("experiment") or run.name_of_folder or "run") for run in leaders]
    names: list[str] = []
    for run, name in zip(leaders, plain, strict=True):
        twins = [twin for twin, other in zip(leaders, plain, strict=True) if other == name and twin is not run]
        if twins:
            keys = sorted({key for twin in twins for key in differing(run, twin, ("seed", "notes", "experiment"))})
            settings = flatten(run.recorded)
            told = ", ".join(f"{key.split('.')[-1]} {settings.get(key)}" for key in keys[:3])
            name = f"{name} ({told or 'checkpoint ' + str(run.evaluation.get('checkpoint'))})"
        unique, count = name, 2
        while unique in names:
            unique, count = f"{name} [{count}]", count + 1
        names.append(unique)
    return names


def short_names(groups: Sequence[Group]) -> dict[Group, str]:
    """Returns names for the first screen: on one line, and without the folder that all have, such as "quickstart/"."""
    folders = {group.name.rpartition("/")[0] for group in groups}
    shared = len(groups) > 1 and len(folders) == 1 and folders != {""}
    return {group: on_one_line(group.name.rpartition("/")[2] if shared else group.name) for group in groups}


def settings_but(group: Group, *keys: str) -> str:
    """Returns the settings of a group except the named ones, as text that can be compared."""
    run = group.first
    config = flatten({key: value for key, value in run.recorded.items() if key not in NAMES_AND_NOTES})
    config = {key: value for key, value in config.items() if key not in keys}
    return json.dumps([config, run.checkpoint, run.test_name, len(run.test.labels)], sort_keys=True, default=str)


def summaries_of(groups: Sequence[Group], quantity: Quantity) -> dict[Group, Summary]:
    """Returns the summary of a number for every group that has it."""
    return {group: summary for group in groups if (summary := group.summary(quantity))}


def comparable(one: Group, other: Group) -> bool:
    """Returns whether two groups have the same data set, network and test examples."""
    configs = one.first.config, other.first.config
    if configs[0] is None or configs[1] is None:
        return False
    networks = [(config.data.name, config.model.name, config.model.width) for config in configs if config is not None]
    runs = (*one.runs, *other.runs)
    same_test = all(
        run.test_name == runs[0].test_name and np.array_equal(run.test.labels, runs[0].test.labels) for run in runs
    )
    return networks[0] == networks[1] and same_test


def nearest_baseline(group: Group, groups: Sequence[Group]) -> Group | None:
    """Returns the comparable baseline with the nearest settings; None if there is none, or for a baseline."""
    if group.first.kind == "baseline":
        return None
    candidates = [one for one in groups if one.first.kind == "baseline" and comparable(one, group)]
    return min(candidates, key=lambda one: len(differing(one.first, group.first, NOT_TRAINING)), default=None)


def pooled_bins(group: Group, n_bins: int) -> Bins:
    """Returns the calibration bins of the test examples of all seeds together."""
    return reduce(Bins.merge, (run.bins(n_bins) for run in group.runs))


def alpha_families(groups: Sequence[Group]) -> list[list[Group]]:
    """Returns the groups that differ only in mixup's alpha, in its order, one list for each set of other settings.

    Of several groups with the same alpha it is the last.
    """
    recorded = [group for group in groups if group.first.config is not None]
    families = [{group.alpha: group for group in family} for family in _families(recorded, "method.mixup_alpha")]
    return [[by_alpha[alpha] for alpha in sorted(by_alpha)] for by_alpha in families]


def soft_label_families(groups: Sequence[Group]) -> list[list[Group]]:
    """Returns lists of groups that differ only in whether inputs and labels are mixed.

    Each list contains a group that mixes only inputs, and full mixup or no mixing.  Groups that mix have the same
    alpha.
    """
    families = []
    for members in _families(groups, "method.mixup_alpha", "method.mix_inputs", "method.mix_labels"):
        for alpha in dict.fromkeys(group.alpha for group in members if group.mixed == (True, False)):
            family = sorted((group for group in members if group.alpha in (0, alpha)), key=lambda group: group.mixed)
            if {group.mixed for group in family} & {(True, True), (False, False)}:
                families.append(family)
    return families


def _families(groups: Sequence[Group], *keys: str) -> list[list[Group]]:
    """Returns lists of groups that differ only in the named settings, in the order of their first members."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(settings_but(group, *keys), []).append(group)
    return list(found.values())
