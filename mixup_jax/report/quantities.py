"""Which numbers are reported, what they are called, and where they stand in evaluation.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mixup_jax.report.runs import Run, dig


@dataclass(frozen=True)
class Quantity:
    """A number that a run has.

    Attributes:
      key: its name in results.json, such as "ece_15", "after_temperature/ece_15" or "ood/mnist/auroc".
      label: its name on the page.
      aim: what is better: "lower", "higher", "near 0", or "" where neither is.
      bins: how many bins it is computed with; None where it needs none.
      signed: whether its sign is part of the message.
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
    """A block of the main table.

    Attributes:
      title: its heading.
      quantities: its rows.
    """

    title: str
    quantities: tuple[Quantity, ...]


TEST = (
    Quantity("accuracy", "Accuracy", "higher"),
    Quantity("nll", "Negative log-likelihood (nats)", "lower"),
    Quantity("brier", "Brier score (sum over classes)", "lower"),
    Quantity("ece_15", "ECE, 15 bins", "lower", bins=15),
    Quantity("ece_100", "ECE, 100 bins", "lower", bins=100),
    Quantity("oe_15", "OE, 15 bins", "lower", bins=15),
    Quantity("oe_100", "OE, 100 bins", "lower", bins=100),
    Quantity("mce_15", "MCE, 15 bins", "lower", bins=15),
    Quantity("confidence_minus_accuracy", "Confidence \N{MINUS SIGN} accuracy", "near 0", signed=True),
)
NOISE_FLOOR = (
    Quantity("noise_floor/ece_15/mean", "ECE, 15 bins: mean", bins=15),
    Quantity("noise_floor/ece_15/p95", "ECE, 15 bins: 95th percentile", bins=15),
    Quantity("noise_floor/ece_100/mean", "ECE, 100 bins: mean", bins=100),
    Quantity("noise_floor/ece_100/p95", "ECE, 100 bins: 95th percentile", bins=100),
)
MORE = (
    Quantity("ece_over_15", "Over-confident part of ECE, 15 bins", "lower", bins=15),
    Quantity("ece_under_15", "Under-confident part of ECE, 15 bins", "lower", bins=15),
    Quantity("ece_l2_15", "ECE, squared gaps, 15 bins", "lower", bins=15),
    Quantity("debiased_ece_l1_15", "ECE, debiased, 15 bins", "lower", bins=15),
    Quantity("debiased_ece_l2_15", "ECE, squared gaps, debiased, 15 bins", "lower", bins=15),
    Quantity("adaptive_ece_15", "Adaptive ECE, 15 bins of equal size", "lower", bins=15),
    Quantity("smooth_ece", "Smooth ECE", "lower"),
    Quantity("classwise_ece_15", "Class-wise ECE, 15 bins", "lower", bins=15),
    Quantity("tace_15", "Thresholded adaptive ECE, 15 bins", "lower", bins=15),
    Quantity("brier_top_label", "Brier score of being right", "lower"),
    Quantity("brier_reliability_15", "Brier score of being right: reliability", "lower", bins=15),
    Quantity("brier_resolution_15", "Brier score of being right: resolution", "higher", bins=15),
    Quantity("brier_uncertainty_15", "Brier score of being right: uncertainty", bins=15),
)


def _scaled(quantities: Sequence[Quantity]) -> tuple[Quantity, ...]:
    """Returns the same numbers after temperature scaling."""
    return tuple(replace(quantity, key=f"after_temperature/{quantity.key}") for quantity in quantities)


AFTER_TEMPERATURE = (
    Quantity("temperature", "Temperature T"),
    *_scaled([quantity for quantity in TEST if quantity.key != "accuracy"]),  # which no temperature changes
)
SELECTIVE = (
    Quantity("aurc", "AURC", "lower"),
    Quantity("e_aurc", "E-AURC", "lower"),
    *(
        Quantity(f"accuracy_at_coverage/{share}", f"Accuracy on the surest {words}", "higher")
        for share, words in (("0.5", "50 %"), ("0.8", "80 %"), ("0.9", "90 %"), ("0.95", "95 %"))
    ),
)
OOD = (
    Quantity("auroc", "AUROC", "higher"),
    Quantity("aupr_in", "AUPR, in-distribution as positive", "higher"),
    Quantity("aupr_out", "AUPR, out-of-distribution as positive", "higher"),
    Quantity("fpr95_ood", "FPR95-OOD (share of in-distribution flagged)", "lower"),
    Quantity("fpr95_id", "FPR95-ID (share of OOD accepted)", "lower"),
    Quantity("scores/entropy/auroc", "AUROC by entropy", "higher"),
    Quantity("scores/energy/auroc", "AUROC by energy", "higher"),
    Quantity("scores/max_logit/auroc", "AUROC by largest logit", "higher"),
    Quantity("mean_confidence", "Mean confidence on it", "lower"),
    Quantity("after_temperature/auroc", "AUROC, after temperature scaling", "higher"),
    Quantity("after_temperature/mean_confidence", "Mean confidence on it, after temperature scaling", "lower"),
)


def sections(ood_names: Sequence[str]) -> list[Section]:
    """Returns the blocks of the main table, one more for each out-of-distribution set."""
    return [
        Section("Test set, as trained", TEST),
        Section("Test set, after temperature scaling", AFTER_TEMPERATURE),
        Section("Noise floor: ECE that a perfectly calibrated network of the same confidences would show", NOISE_FLOOR),
        Section("More calibration errors, as trained", MORE),
        Section("More calibration errors, after temperature scaling", _scaled(MORE)),
        Section("Selective prediction, as trained", SELECTIVE),
        *(
            Section(
                f"Out of distribution: {name}",
                tuple(Quantity(f"ood/{name}/{quantity.key}", quantity.label, quantity.aim) for quantity in OOD),
            )
            for name in ood_names
        ),
    ]


def ood_names(runs: Sequence[Run]) -> list[str]:
    """Returns the out-of-distribution sets that any of the runs was evaluated on, in order of appearance."""
    return list(dict.fromkeys(name for run in runs for name in run.ood))


def value(run: Run, quantity: Quantity) -> float | None:
    """Returns a run's number, or None where its evaluation.json has none."""
    where = run.evaluation if quantity.path[0] == "ood" else run.result
    found = dig(where, *quantity.path)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def interval(run: Run, quantity: Quantity) -> tuple[float, float] | None:
    """Returns the 95 % interval over test examples of a run's number, or None where there is none."""
    parent = dig(run.evaluation if quantity.path[0] == "ood" else run.result, *quantity.path[:-1])
    found = dig(parent, "intervals", quantity.path[-1])
    return (float(found[0]), float(found[1])) if found else None


def examples(run: Run, quantity: Quantity) -> str:
    """Returns how many examples a run's number rests on, such as "10,000" or "10,000 in, 5,000 out"."""
    if quantity.path[0] != "ood":
        return f"{run.result['n']:,}"
    numbers = run.evaluation["ood"].get(quantity.path[1])
    if numbers is None:
        return ""
    if quantity.path[-1] == "mean_confidence":
        return f"{numbers['n_out']:,}"
    return f"{numbers['n_in']:,} in, {numbers['n_out']:,} out"
