"""What is measured of each network, from its kept records alone, and how networks are paired."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixup_jax import metrics
from mixup_jax.data.synthetic import KINDS, PLANS
from mixup_jax.metrics.softmax import Ints
from mixup_jax.runs.files import read_object
from mixup_jax.runs.records import Predictions, load_record

Numbers = dict[str, float]
"""By key: acc, nll, ece, gap, nll_t, .., refinement, temperature, val_gap, train_loss, shift_ece, .., auroc/NAME, .."""
BINS = 15
TEST_IMAGES = 10_000
MIXTURE = PLANS["corrupted"]
"""Image i of the test set has corruption number i mod 12."""


@dataclass(frozen=True, order=True)
class Regime:
    """What the runs of a comparison share.

    Attributes:
      task: "images" or "texts".
      plan: "plain", "augmented" or, of the later blocks, "width 16", "width 32" or "40 epochs".
      size: the number of training examples.
    """

    task: str
    plan: str
    size: int

    def __str__(self) -> str:
        if self.task == "texts":
            return f"{self.size:,} sentences"
        return f"{self.size:,} images" + ("" if self.plan == "plain" else f", {self.plan}")


@dataclass(frozen=True)
class Network:
    """A run of the grid: its place in it, and its numbers."""

    regime: Regime
    alpha: float
    seed: int
    numbers: Numbers


Study = dict[tuple[Regime, float], dict[int, Numbers]]
"""The numbers of each cell by seed."""


def load_study(folder: Path) -> Study:
    """Returns all networks that are kept in a folder."""
    study: Study = {}
    for path in sorted(folder.glob("*/config.json")):
        network = load_network(path.parent)
        study.setdefault((network.regime, network.alpha), {})[network.seed] = network.numbers
    return study


def load_network(folder: Path) -> Network:
    """Returns a network's place in the grid and its numbers."""
    config, training = read_object(folder / "config.json"), read_object(folder / "training.json")
    data = config["data"]
    task = "texts" if data["name"] == "mr" else "images"
    numbers = measured(load_records(folder), data["name"]) | {"train_loss": training["train_loss"]}
    regime = Regime(task, plan_of(config), data["train_examples"])
    return Network(regime, config["method"]["mixup_alpha"], config["seed"], numbers)


def plan_of(config: dict[str, Any]) -> str:
    """Returns the plan of a run."""
    if config["data"]["crop_padding"]:
        return "augmented"
    if config["model"]["name"] == "resnet8" and config["model"]["width"] != 8:
        return f"width {config['model']['width']}"
    return "40 epochs" if (config["data"]["train_examples"], config["epochs"]) == (10_000, 40) else "plain"


def load_records(folder: Path) -> dict[str, Predictions]:
    """Returns the records of a network by dataset/split."""
    records = [load_record(path) for path in sorted((folder / "predictions").glob("*.npz"))]
    return {record.name: record for record in records}


def measured(records: dict[str, Predictions], dataset: str) -> Numbers:
    """Returns all that the protocol measures; `_t` is after the temperature of the held-out examples."""
    own = f"{dataset}/test", f"{dataset}/validation"
    test, held_out = (records[name] for name in own)
    temperature = metrics.fit_temperature(held_out.logits, held_out.labels)
    best = metrics.fit_temperature(test.logits, test.labels)
    numbers = {
        **labelled(test, temperature),
        "temperature": temperature,
        "refinement": metrics.nll(metrics.scale(test.logits, best), test.labels),
        "val_gap": labelled(held_out, 1.0)["gap"],
    }
    for name, record in records.items():
        if record.meta.get("shift_of"):
            numbers |= {f"shift_{key}": value for key, value in labelled(record, temperature).items()}
            numbers |= by_kind(record, temperature)
        elif name not in own:
            numbers |= foreign(name.partition("/")[0], test, record, temperature)
    return numbers


def labelled(record: Predictions, temperature: float) -> Numbers:
    """Returns accuracy, and NLL, ECE and signed gap as trained and after a temperature."""
    numbers: Numbers = {}
    for mark, scale in (("", 1.0), ("_t", temperature)):
        examples = metrics.examine(record.logits, record.labels, scale)
        bins = metrics.bin_confidences(examples.confidence, examples.correct, BINS)
        numbers[f"nll{mark}"] = float(-examples.log_likelihood.mean())
        numbers[f"ece{mark}"] = metrics.ece(bins)
        numbers[f"gap{mark}"] = metrics.confidence_minus_accuracy(bins)
        numbers["acc"] = float(examples.correct.mean())
    return numbers


def by_kind(record: Predictions, temperature: float) -> Numbers:
    """Returns accuracy, and NLL as trained and after a temperature, of each kind of corruption."""
    corruption = corrupted_rows(len(record.labels)) % len(MIXTURE)
    numbers: Numbers = {}
    for kind in KINDS:
        rows = np.flatnonzero([MIXTURE[number][0] == kind for number in corruption])
        some = labelled(Predictions(record.logits[rows], record.labels[rows]), temperature)
        numbers |= {f"{kind}_{key}": some[key] for key in ("acc", "nll", "nll_t")}
    return numbers


def corrupted_rows(n: int) -> Ints:
    """Returns which of the 10,000 test images the n corrupted ones are: those that `evaluation.ood_examples` draws."""
    return np.sort(np.random.default_rng(0).permutation(TEST_IMAGES)[:n])


def foreign(name: str, test: Predictions, record: Predictions, temperature: float) -> Numbers:
    """Returns the mean confidence on a foreign set, and the AUROC of confidence against the test examples."""
    numbers: Numbers = {}
    for mark, scale in (("", 1.0), ("_t", temperature)):
        inside, outside = (metrics.examine(each.logits, temperature=scale) for each in (test, record))
        numbers[f"conf/{name}{mark}"] = float(outside.confidence.mean())
        numbers[f"auroc/{name}{mark}"] = metrics.auroc(inside.msp, outside.msp)
    return numbers


def regimes(study: Study) -> list[Regime]:
    """Returns the regimes that have a network, plain images first, texts last."""
    found = {regime for regime, _ in study}
    order = ["plain", "augmented", "width 16", "width 32", "40 epochs"]
    return sorted(found, key=lambda regime: (regime.task != "images", order.index(regime.plan), regime.size))


def differences(study: Study, regime: Regime, alpha: float, key: str) -> dict[int, float]:
    """Returns mixup minus ERM of one number by seed, of the seeds that both have; none where a set is not measured."""
    erm, mixup = study.get((regime, 0.0), {}), study.get((regime, alpha), {})
    return {seed: mixup[seed][key] - erm[seed][key] for seed in sorted(erm) if seed in mixup and key in erm[seed]}


def mean_of(study: Study, regime: Regime, alpha: float, key: str) -> float:
    """Returns the mean of a number over the seeds of a cell."""
    return float(np.mean([numbers[key] for numbers in study[regime, alpha].values()]))
