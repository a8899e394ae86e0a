"""A league of methods beside ERM and mixup, which are runs of configs/grids/settled.py, in two regimes of that grid.

Protocol   docs/results/league/protocol.md, written before the first run.
Command    python -m mixup_jax.sweep --grid=configs/grids/league.py --output=runs/league --jobs=2
Choice     The first runs are two candidates of each method.  When they are finished,
           python -m studies.settled.records runs/league docs/results/league; python -m studies.league.choose
           writes docs/results/league/chosen.json, and the same command then runs what was chosen with all seeds.
Data       python -m mixup_jax.data fashion_mnist mnist
Cost       18 candidates and 45 further networks, each half a minute to three minutes of one core.
"""

import json
from pathlib import Path

from mixup_jax.grid import PlannedRun, load_grid, planned

HERE = Path(__file__).resolve().parent
CHOSEN = HERE.parents[1] / "docs" / "results" / "league" / "chosen.json"
SIZES = (2_500, 10_000)
SEEDS = (1, 0, 2)
FIRST = 1
"""The seed of the candidates."""

CANDIDATES: dict[str, dict[str, dict[str, object]]] = {
    "focal": {"gamma_3": {}, "gamma_1": {"method.focal_gamma": 1.0}},
    "mbls": {"margin_10": {}, "margin_5": {"method.margin": 5.0}},
    "logit_norm": {"tau_0.04": {}, "tau_0.2": {"method.logit_norm": 0.2}},
    "cutmix": {"alpha_1": {}, "alpha_0.2": {"method.mixup_alpha": 0.2}},
    "manifold_mixup": {"alpha_2": {}, "alpha_0.2": {"method.mixup_alpha": 0.2}},
    "arc": {"alpha_1": {}, "alpha_0.2": {"method.mixup_alpha": 0.2}},
    "regmixup": {"alpha_20": {}, "alpha_1": {"method.mixup_alpha": 1.0}},
    "rankmixup": {"weight_0.1": {}, "weight_1": {"method.rank_weight": 1.0}},
    "mit": {"gap_0": {}, "gap_0.5": {"method.decouple_gap": 0.5}},
}
"""By method: what is published first, then one other value of its most important number."""


def get_grid() -> list[PlannedRun]:
    """Returns the candidates and, once there is a choice, the chosen of every size and seed, small ones first."""
    runs = [run(method, label, SIZES[0], FIRST) for method, labels in CANDIDATES.items() for label in labels]
    if CHOSEN.is_file():
        chosen = json.loads(CHOSEN.read_text())["chosen"]
        known = {planned.name for planned in runs}
        later = [run(method, chosen[method], size, seed) for size in SIZES for seed in SEEDS for method in CANDIDATES]
        runs += [planned for planned in later if planned.name not in known]
    return runs


def run(method: str, label: str, size: int, seed: int) -> PlannedRun:
    """Returns the run of a method: ERM's of that size and seed in the settled grid, but for the method."""
    erm = f"images_{size}_plain_alpha_0-{seed}"
    like = next(each for each in load_grid(HERE / "settled.py") if each.name == erm)
    name = f"images_{size}_plain_{method}_{label}"
    settings = {key: value for key, value in like.settings.items() if not key.startswith("method.")}
    settings |= {"experiment": f"league/{name}", **CANDIDATES[method][label]}
    return planned(name, f"configs/fashion_mnist_small.py:{method}", seeds=[seed], settings=settings)[0]
