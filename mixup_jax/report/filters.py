"""The filters of the page: what a reader can switch on and off.

Every filter has a token such as `group-0`, made of its kind and number, never of a name.  A part of the page
lists the tokens of its filters, and is shown while all of them are on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mixup_jax.methods.method import KINDS
from mixup_jax.report.groups import Group, Summary
from mixup_jax.report.quantities import ood_names
from mixup_jax.report.runs import RunRecord


@dataclass(frozen=True)
class Filter:
    """A filter: its token and its name."""

    token: str
    name: str


@dataclass(frozen=True)
class FilterGroup:
    """Filters of one kind: the title, and the filters in order."""

    title: str
    filters: tuple[Filter, ...]


class Filters:
    """The filters of a report.

    Attributes:
      kinds: the groups of filters, except those with a single filter.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        """Numbers methods, seeds, sets and groups in order of appearance."""
        runs = [run for group in groups for run in group.runs]
        self._groups = [group.name for group in groups]
        self._methods = list(dict.fromkeys(group.first.kind for group in groups))
        self._tests = list(dict.fromkeys(run.test_name for run in runs))
        self._seeds = sorted({_seed(run) for run in runs}, key=lambda seed: (len(seed), seed))
        self._ood = ood_names(runs)
        kinds = [
            _kind("Methods", "method", [KINDS[name] for name in self._methods]),
            _kind("Groups of runs", "group", self._groups),
            _kind("Single seeds", "seed", self._seeds),
            _kind("Test sets", "test", self._tests),
        ]
        # If each method has one group, the filters of the groups are those of the methods.
        if len(self._methods) == len(self._groups):
            kinds = kinds[1:]
        outside = _kind("Out-of-distribution sets", "ood", self._ood)
        self.kinds = (*(group for group in kinds if len(group.filters) > 1), *([outside] if self._ood else []))

    @property
    def seed_tokens(self) -> list[str]:
        """The tokens of the seeds; none if all runs have the same seed."""
        return [f"seed-{number}" for number in range(len(self._seeds))] if len(self._seeds) > 1 else []

    @property
    def tokens(self) -> list[str]:
        """The tokens of all filters."""
        return [one.token for group in self.kinds for one in group.filters]

    def of_group(self, group: Group) -> str:
        """Returns the tokens of a group, separated by spaces."""
        numbers = {
            "group": self._groups.index(group.name),
            "method": self._methods.index(group.first.kind),
            "test": self._tests.index(group.first.test_name),
        }
        return " ".join(f"{name}-{number}" for name, number in numbers.items())

    def of_run(self, group: Group, run: RunRecord) -> str:
        """Returns the tokens of a run of a group."""
        return f"{self.of_group(group)} seed-{self._seeds.index(_seed(run))}"

    def seeds_before(self, group: Group, run: RunRecord) -> str:
        """Returns the tokens of the seeds of a group before that of a run; none for the first."""
        before = group.runs[: group.runs.index(run)]
        return " ".join(f"seed-{self._seeds.index(_seed(other))}" for other in before)

    def of_ood(self, name: str) -> str:
        """Returns the token of an out-of-distribution set, or no token for any other name."""
        return f"ood-{self._ood.index(name)}" if name in self._ood else ""

    def of_key(self, key: str) -> str:
        """Returns the token of a number, by its key in results.json."""
        parts = key.split("/")
        return self.of_ood(parts[1]) if parts[0] == "ood" else ""

    def of_curves(self, groups: Iterable[Group]) -> dict[str, str]:
        """Returns the tokens of the curves of a figure, one of each of the groups, by their ids in the SVG."""
        return {f"curve-{index}": self.of_group(group) for index, group in enumerate(groups)}

    def of_values(self, found: Iterable[tuple[Group, Summary]]) -> dict[str, str]:
        """Returns the tokens of the rows of a figure and of the single values in them, by their ids in the SVG.

        Rows are numbered in the order in which their groups come first.
        """
        rows: dict[Group, int] = {}
        parts: dict[str, str] = {}
        for group, summary in found:
            row = rows.setdefault(group, len(rows))
            parts[f"curve-{row}"] = self.of_group(group)
            if len(summary.values) == len(group.runs):
                parts |= {f"value-{row}-{seed}": self.of_run(group, run) for seed, run in enumerate(group.runs)}
        return parts


def _seed(run: RunRecord) -> str:
    return "unknown" if run.seed is None else str(run.seed)


def _kind(title: str, prefix: str, names: Sequence[str]) -> FilterGroup:
    return FilterGroup(title, tuple(Filter(f"{prefix}-{number}", name) for number, name in enumerate(names)))
