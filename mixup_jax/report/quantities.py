"""The reported numbers, their names, and their places in evaluation.json."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mixup_jax.metrics import table
from mixup_jax.metrics.table import Metric
from mixup_jax.report.runs import RunRecord, dig


@dataclass(frozen=True)
class Quantity:
    """A number that a run has.

    Attributes:
      key: its name in results.json, such as "ece_15", "after_temperature/ece_15" or "ood/mnist/auroc".
      label: its name on the page.
      aim: which values are better: "lower", "higher", "near 0", or "" if none is.
      bins: how many bins it is computed with; None if it needs none.
      signed: whether its sign is always shown.
    """

    key: str
    label: str
    aim: str = ""
    bins: int | None = None
    signed: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        """The parts of the key."""
        return tuple(self.key.split("/"))


@dataclass(frozen=True)
class Section:
    """A block of the main table: its heading and its rows."""

    title: str
    quantities: tuple[Quantity, ...]


GROUPS = "ood_groups"
_OF_DOCUMENT = ("ood", GROUPS)
_AFTER = ", after temperature scaling"


def of_row(row: Metric, prefix: str = "", suffix: str = "") -> Quantity:
    """Returns the quantity of a row of the table of metrics, with a prefix of its key and a suffix of its label."""
    return Quantity(prefix + row.key, row.label + suffix, row.aim, row.bins, row.aim == "near 0")


def sections(ood_names: Sequence[str]) -> list[Section]:
    """Returns the blocks of the main table, including one for each out-of-distribution set."""
    test, more, selective = (
        [of_row(row) for row in table.METRICS if row.section == section] for section in ("test", "more", "selective")
    )
    scaled = [of_row(row, "after_temperature/") for row in table.METRICS if row.section == "test" and not row.unscaled]
    floors = [
        Quantity(f"noise_floor/{row.key}/{part}", f"{row.label}: {words}", bins=row.bins)
        for row in table.METRICS
        if row.floor is not None
        for part, words in (("mean", "mean"), ("p95", "95th percentile"))
    ]
    return [
        Section("Test set, as trained", tuple(test)),
        Section("Test set, after temperature scaling", (Quantity("temperature", "Temperature T"), *scaled)),
        Section(
            "Noise floor: ECE that a perfectly calibrated network of the same confidences would show", tuple(floors)
        ),
        Section("More calibration errors, as trained", tuple(more)),
        Section(
            "More calibration errors, after temperature scaling",
            tuple(of_row(row, "after_temperature/") for row in table.METRICS if row.section == "more"),
        ),
        Section("Selective prediction, as trained", tuple(selective)),
        *(Section(title, quantities) for title, quantities in _ON_REQUEST.items()),
        *(Section(f"Out of distribution: {name}", _foreign(f"ood/{name}/")) for name in ood_names),
        *(
            Section(f"Out of distribution: mean of the {group} sets", _of_group(f"{GROUPS}/{group}/scores/"))
            for group in ("near", "far")
        ),
    ]


def _conformal() -> tuple[Quantity, ...]:
    names = {"thr": "THR", "aps": "APS", "raps": "RAPS"}
    states = {"as_trained": "", "with_temperature": _AFTER}
    numbers = {
        "coverage": "coverage",
        "mean_size": "classes in a set",
        "worst_class_coverage": "coverage of worst class",
    }
    return tuple(
        Quantity(f"extra/conformal/{state}/{rule}/{key}", f"{name}: {words}{suffix}")
        for state, suffix in states.items()
        for rule, name in names.items()
        for key, words in numbers.items()
    )


def _recalibrations() -> tuple[Quantity, ...]:
    of_logits = ("none", "temperature", *("svs", "sms", "vector_scaling", "dirichlet", "ensemble_temperature"))
    of_all = (*of_logits, "isotonic", "beta", "spline", "histogram")
    losses = (("", of_logits, "nll", "NLL"), ("_confidence", of_all, "brier_top_label", "Brier score of being right"))
    places = {"cross_fitted": "cross-fitted on validation", "here": "on test"}
    return tuple(
        Quantity(
            f"extra/recalibration/{place}{end}/{name}/{key}", f"{name.replace('_', ' ')}, {words}: {what}", "lower"
        )
        for end, names, loss, label in losses
        for place, words in places.items()
        for name in names
        for key, what in ((loss, label), ("minus_temperature", f"{label} less that after temperature"))
    )


def _of_groups(name: str) -> tuple[Quantity, ...]:
    return (
        Quantity(f"extra/{name}/worst_accuracy", "Accuracy of the worst", "higher"),
        Quantity(f"extra/{name}/accuracy_gap", "Accuracy, best less worst", "lower"),
        Quantity(f"extra/{name}/worst_ece_15", "ECE of the worst", "lower", 15),
        Quantity(f"extra/{name}/ece_15_gap", "ECE, worst less best", "lower", 15),
    )


_PARTS = {"nll": "NLL", "brier": "Brier score", "brier_top_label": "Brier score of being right"}
_ON_REQUEST = {
    "Refinement and calibration parts": tuple(
        Quantity(f"extra/refinement/{key}_{part}", f"{label}: {part}", "lower")
        for key, label in _PARTS.items()
        for part in ("refinement", "calibration")
    ),
    "Recalibration: losses, and how far they are from those after temperature scaling": _recalibrations(),
    "Test of calibration": (Quantity("extra/calibration_test/p_value", "p-value of being calibrated"),),
    "Conformal sets that should cover 90 %": _conformal(),
    "Classes": _of_groups("classes"),
    "Groups": _of_groups("groups"),
    "Differences within the ensemble": (
        Quantity("ensemble/mutual_information", "Mutual information (nats)"),
        Quantity("ensemble/disagreement", "Disagreement"),
    ),
}
"""The sections of what was asked for with `--extra`, and of ensembles."""


def _of_group(prefix: str) -> tuple[Quantity, ...]:
    """Returns the mean AUROC and FPR95 of each score over a group of out-of-distribution sets."""
    shown = [row for row in table.DETECTION if row.key in ("auroc", "fpr95_ood")]
    return tuple(of_row(row, f"{prefix}{score.key}/", f" by {score.label}") for score in table.SCORES for row in shown)


def _foreign(prefix: str) -> tuple[Quantity, ...]:
    """Returns the numbers of an out-of-distribution set, whose keys begin with `prefix`."""
    first = table.DETECTION[0]
    confidence = Quantity("mean_confidence", "Mean confidence on it", "lower")
    return (
        *(of_row(row, prefix) for row in table.DETECTION),
        *(of_row(first, f"{prefix}scores/{score.key}/", f" by {score.label}") for score in table.SCORES[1:]),
        replace(confidence, key=f"{prefix}{confidence.key}"),
        of_row(first, f"{prefix}after_temperature/", _AFTER),
        replace(confidence, key=f"{prefix}after_temperature/{confidence.key}", label=confidence.label + _AFTER),
    )


def ood_names(runs: Sequence[RunRecord]) -> list[str]:
    """Returns the out-of-distribution sets on which any run was evaluated, in order of appearance."""
    return list(dict.fromkeys(name for run in runs for name in run.ood))


def value(run: RunRecord, quantity: Quantity) -> float | None:
    """Returns a run's number, or None if its evaluation.json does not have it."""
    where = run.evaluation if quantity.path[0] in _OF_DOCUMENT else run.result
    found = dig(where, *quantity.path)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def interval(run: RunRecord, quantity: Quantity) -> tuple[float, float] | None:
    """Returns the 95 % interval over test examples of a run's number, or None if there is none."""
    parent = dig(run.evaluation if quantity.path[0] in _OF_DOCUMENT else run.result, *quantity.path[:-1])
    found = dig(parent, "intervals", quantity.path[-1])
    pair = isinstance(found, list) and len(found) == 2 and all(isinstance(end, int | float) for end in found)
    return (float(found[0]), float(found[1])) if pair else None


def examples(run: RunRecord, quantity: Quantity) -> str:
    """Returns the number of examples behind a run's number, such as "10,000" or "10,000 in, 5,000 out"."""
    if quantity.path[0] == GROUPS:
        sets = dig(run.evaluation, *quantity.path[:2], "sets")
        return ", ".join(map(str, sets)) if isinstance(sets, list) else ""
    if quantity.path[0] != "ood":
        return f"{run.result['n']:,}"
    numbers = run.evaluation["ood"].get(quantity.path[1])
    if numbers is None:
        return ""
    if quantity.path[-1] == "mean_confidence":
        return f"{numbers['n_out']:,}"
    return f"{numbers['n_in']:,} in, {numbers['n_out']:,} out"
