"""Evaluations of a trained network that change how it predicts: Monte Carlo dropout, clean batch statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from mixup_jax.config import Config
from mixup_jax.data.examples import load_examples
from mixup_jax.data.stream import AnySet
from mixup_jax.errors import InputError
from mixup_jax.prediction.batch_norm import clean_statistics
from mixup_jax.prediction.predict import make_mc_dropout
from mixup_jax.prediction.restored import Restored, logits_of_sets, predict_sets
from mixup_jax.runs.provenance import DERIVED
from mixup_jax.state import run_keys


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """How a network predicts, other than as it was trained; the defaults change nothing.

    Attributes:
      mc_dropout: passes of Monte Carlo dropout whose probabilities are averaged; 0 is plain prediction.
      batch_norm_examples: clean training examples on which batch statistics are measured anew; 0 keeps the
        running averages of training.
    """

    mc_dropout: int = 0
    batch_norm_examples: int = 0

    def __post_init__(self) -> None:
        for flag, number in (("mc_dropout", self.mc_dropout), ("batch_norm_examples", self.batch_norm_examples)):
            if number < 0:
                raise InputError(f"--{flag}={number}; expected a positive number")

    def check(self, config: Config) -> None:
        """Raises InputError if a network of this config cannot predict in this way."""
        if self.mc_dropout and not config.model.dropout:
            raise InputError(
                f"--mc_dropout={self.mc_dropout}, but it was trained without dropout (model.dropout is 0), so "
                'all passes would be the same; expected a run with dropout, such as the variant "dropout"'
            )

    def apply(self, config: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Returns the config of the records: that of the run, with what was changed under `derived` and in its name.

        Args:
          config: as the checkpoint has it.
          name: of the run, where the config has no `experiment`.
        """
        changes = {key: number for key, number in vars(self).items() if number}
        if not changes:
            return dict(config)
        marks = {"mc_dropout": f"+mc{self.mc_dropout}", "batch_norm_examples": f"+bn{self.batch_norm_examples}"}
        experiment = (config.get("experiment") or name) + "".join(marks[key] for key in changes)
        return {**config, "experiment": experiment, DERIVED: changes}


def derived_logits(
    restored: Restored,
    derivation: Derivation,
    sets: Mapping[str, AnySet],
    data_dir: Path,
    report: Callable[[str], None],
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the logits of every set, float32 `[N, K]`; under Monte Carlo dropout, log-probabilities.

    What is random is drawn from the run's seed, so the same command gives the same records.

    Raises:
      InputError: there are fewer training examples, or no batch statistics to measure on them.
    """
    config = restored.config
    masks, chosen = jax.random.split(run_keys(config.seed).evaluation)
    if derivation.batch_norm_examples:
        restored = _with_clean_statistics(restored, derivation.batch_norm_examples, chosen, data_dir, report)
    if not derivation.mc_dropout:
        return logits_of_sets(restored, restored.network, sets, report)
    predict = make_mc_dropout(
        restored.model,
        restored.inputs_of,
        restored.mesh,
        batch_size=config.evaluation.batch_size,
        passes=derivation.mc_dropout,
        key=masks,
    )
    return predict_sets(predict, restored.variables, sets, report)


def _with_clean_statistics(
    restored: Restored, examples: int, key: jax.Array, data_dir: Path, report: Callable[[str], None]
) -> Restored:
    inputs = load_examples(restored.config.data, data_dir).train.inputs
    if examples > len(inputs):
        raise InputError(
            f"--batch_norm_examples={examples}, but the run has {len(inputs)} training examples; expected at most these"
        )
    report(f"measuring batch statistics on {examples:,} clean training examples")
    rows = np.sort(np.asarray(jax.random.permutation(key, len(inputs))[:examples]))
    batch_size = restored.config.evaluation.batch_size
    statistics = clean_statistics(
        restored.model, restored.variables, restored.inputs_of, inputs[rows], batch_size=batch_size
    )
    return replace(restored, variables={**restored.variables, "batch_stats": statistics})
