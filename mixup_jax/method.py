"""A training method as a point in a small space of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mixup_jax.errors import InputError, unknown_name

PAPER_BATCH = 128
"""The paper's batch size, and the largest group that is mixed together unless asked otherwise."""

SMOOTH_OVER = ("others", "all")
SCOPES = ("group", "example")


@dataclass(frozen=True, kw_only=True)
class Method:
    """The numbers that make a training method; the defaults are empirical risk minimisation (ERM).

    Attributes:
      mixup_alpha: lambda ~ Beta(alpha, alpha); 0 switches mixing off (Zhang et al. 2018).
      mix_inputs: mix the inputs; off, together with `mix_labels`, is label-only mixing.
      mix_labels: mix the labels; off means that the mixed input keeps the hard label of its larger
        part (feature-only mixing, a control experiment of the paper).
      label_smoothing: epsilon in [0, 1), the probability moved away from the label.
      smooth_over: "others" spreads epsilon over the K - 1 other classes (the paper's form), "all"
        over all K classes (Szegedy et al. 2016; also the form of optax and Keras).
      entropy_weight: kappa >= 0 in cross-entropy - kappa * H(p), H in nats per example
        (Pereyra et al. 2017).
      group_size: how many consecutive examples of the global batch share one lambda and one random
        permutation; 0 takes the whole batch, up to 128 (the paper's batch).
      scope: "group" draws one lambda for a group (the paper), "example" one for each example.
    """

    mixup_alpha: float = 0.0
    mix_inputs: bool = True
    mix_labels: bool = True
    label_smoothing: float = 0.0
    smooth_over: str = "others"
    entropy_weight: float = 0.0
    group_size: int = 0
    scope: str = "group"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mixup_alpha) and self.mixup_alpha >= 0):
            raise InputError(
                f"method.mixup_alpha is {self.mixup_alpha}; expected a finite number >= 0 (0 switches mixup off)"
            )
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"method.label_smoothing is {self.label_smoothing}; expected a number in [0, 1)")
        if not (math.isfinite(self.entropy_weight) and self.entropy_weight >= 0):
            raise InputError(f"method.entropy_weight is {self.entropy_weight}; expected a finite number >= 0")
        if self.group_size < 0:
            raise InputError(
                f"method.group_size is {self.group_size}; expected 0 (automatic) or a positive number of examples"
            )
        if self.smooth_over not in SMOOTH_OVER:
            raise unknown_name("method.smooth_over", self.smooth_over, SMOOTH_OVER)
        if self.scope not in SCOPES:
            raise unknown_name("method.scope", self.scope, SCOPES)

    @property
    def mixes(self) -> bool:
        """Whether examples are mixed at all: decided here, in Python, since Beta(0, 0) is NaN."""
        return self.mixup_alpha > 0 and (self.mix_inputs or self.mix_labels)

    def group(self, batch_size: int) -> int:
        """Returns how many examples of a batch of `batch_size` are mixed together.

        Raises:
          InputError: the batch is no whole number of groups.
        """
        size = self.group_size or min(batch_size, PAPER_BATCH)
        if batch_size % size:
            raise InputError(
                f"batch_size is {batch_size}, which is no whole number of mixing groups of {size}; "
                "expected a multiple, or set method.group_size to a divisor of the batch"
            )
        return size


VARIANTS = {
    "erm": Method(),
    "mixup": Method(mixup_alpha=0.2),
    "label_smoothing": Method(label_smoothing=0.1),
    "erl": Method(entropy_weight=0.1),
}
"""The methods of the paper by the names they have in configs; the numbers are the paper's best."""


def variant(name: str) -> Method:
    """Returns a named method; raises InputError, listing the names, for any other."""
    if name not in VARIANTS:
        raise unknown_name("config variant", name, VARIANTS)
    return VARIANTS[name]
