"""Makes run folders for the tests of the report, through the functions that real runs are written with."""

import json
from pathlib import Path

import numpy as np

from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.runs.files import write_json
from mixup_jax.runs.records import Predictions, save_predictions

STEP = 1170
SIGNAL = 4.2


def config_of(alpha=0.0, seed=0, experiment="quickstart/erm", **changes):
    config = {
        "experiment": experiment,
        "notes": "Chosen so that the baseline over-fits: 5,000 images, 30 epochs, no augmentation.",
        "seed": seed,
        "epochs": 30,
        "batch_size": 128,
        "data": {"name": "fashion_mnist", "train_examples": 5000, "validation_examples": 5000, "flip": False},
        "model": {"name": "resnet8", "width": 16},
        "method": {"mixup_alpha": alpha, "mix_inputs": True, "mix_labels": True, "label_smoothing": 0.0},
        "optimizer": {"learning_rate": 0.1, "schedule": "cosine", "step_epochs": [60, 120]},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return config


def record(config, dataset, split, n, *, sharpness, signal=SIGNAL, noise=0.5, labelled=True):
    """Logits that are calibrated up to noise at sharpness 1, over-confident above it."""
    truth = np.random.default_rng([n, len(dataset), len(split)])
    mine = np.random.default_rng([int(config["seed"]) if str(config["seed"]).isdigit() else 0, int(10 * sharpness), n])
    latent = signal * truth.standard_normal((n, 10))
    probability = np.exp(latent - latent.max(axis=1, keepdims=True))
    cumulative = (probability / probability.sum(axis=1, keepdims=True)).cumsum(axis=1)
    labels = (truth.random((n, 1)) > cumulative).sum(axis=1).clip(0, 9).astype(np.int32)
    logits = sharpness * (latent + noise * mine.standard_normal((n, 10)))
    origin = {"dataset": dataset, "split": split, "step": STEP, "seed": config["seed"], "device_count": 1}
    meta = {**origin, "config": config, "versions": {"jax": "0.10.2"}, "source": f"made up ({dataset})"}
    return Predictions(logits.astype(np.float32), labels if labelled else np.full(n, -1, np.int32), meta)


def make_run(
    folder, *, alpha=0.0, sharpness=None, n=400, ood=("mnist", "gaussian_noise"), signals=(1.6, 1.1), **changes
):
    """Writes a run folder and returns its path."""
    folder = Path(folder)
    config = config_of(alpha=alpha, **{"experiment": "quickstart/mixup" if alpha else "quickstart/erm", **changes})
    sharp = sharpness or (1.0 if alpha else 1.9)
    data = config["data"]["name"]
    test = record(config, data, "test", n, sharpness=sharp, noise=0.4 if alpha else 0.8)
    validation = record(config, data, "validation", n // 2, sharpness=sharp, noise=0.4 if alpha else 0.8)
    outside = {
        name: record(config, name, "test", n // 2, sharpness=sharp, signal=signal, labelled=False)
        for name, signal in zip(ood, signals, strict=False)
    }
    for one in (test, validation, *outside.values()):
        save_predictions(folder / "predictions" / f"{one.name.replace('/', '-')}-{STEP}.npz", one)
    write_json(folder / "config.json", config)
    evaluation = evaluate_records(test, validation=validation, ood=outside)
    write_json(folder / "evaluation.json", {**evaluation, "checkpoint": "last"})
    lines = [{"step": 39 * epoch, "epoch": epoch, "train_loss": 2 / epoch + alpha} for epoch in range(1, 31)]
    lines += [{"step": 39 * e, "epoch": e, "validation_accuracy": 0.9 - 0.4 / e} for e in range(5, 31, 5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def reconfigure(folder, change):
    """Changes the config of a run, as trained and as evaluated."""
    rewrite(folder / "config.json", change)
    rewrite(folder / "evaluation.json", lambda evaluation: change(evaluation["config"]))


def rewrite(path, change):
    """Changes a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
