"""What the paper printed, and which runs may be held against it.

Thulasidasan et al. (2019) print numbers for out-of-distribution detection alone: AUROC in percent of the
maximum softmax probability, VGG-16 trained on STL-10, single networks without a spread.  Everything else is
drawn in figures without tables.
"""

from __future__ import annotations

from dataclasses import replace

from mixup_jax.report.groups import kind
from mixup_jax.report.runs import Run
from mixup_jax.runs.provenance import DERIVED

TRAINED_ON = "stl10"
AUROC = {
    "Baseline": {"gaussian_noise": 0.7328, "imagenet_not_stl10": 0.8057},
    "Dropout": {"gaussian_noise": 0.7057, "imagenet_not_stl10": 0.7893},
    "Mixup": {"gaussian_noise": 0.9593, "imagenet_not_stl10": 0.8328},
}
"""The paper's AUROC as fractions, by its name of the method and the catalogue's name of the other set."""
TEXT = {"mr": "MR", "trec": "TREC", "imdb": "IMDB"}
"""The paper's text data sets, by their names in the catalogue."""


def name_in_paper(run: Run) -> str | None:
    """Returns what the paper's table calls a run's method, or None where it has no row for it.

    Its dropout is Monte Carlo dropout: several passes of a network that was trained with dropout.
    """
    derived = run.setting(DERIVED, default={})
    plain = replace(run, config={key: setting for key, setting in run.config.items() if key != DERIVED})
    dropout = bool(run.setting("model", "dropout", default=0))
    if kind(plain) == "baseline" and dropout:
        return "Dropout" if list(derived) == ["mc_dropout"] else None
    return None if derived or dropout else {"baseline": "Baseline", "mixup": "Mixup"}.get(kind(plain))


def printed_auroc(run: Run, ood: str) -> float | None:
    """Returns the paper's AUROC of the same method and the same two data sets, or None where it printed none."""
    if run.setting("data", "name") != TRAINED_ON:
        return None
    return AUROC.get(name_in_paper(run) or "", {}).get(ood)
