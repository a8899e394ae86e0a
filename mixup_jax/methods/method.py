"""A training method as a point in a small space of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mixup_jax.errors import InputError, unknown_name

PAPER_BATCH = 128
"""The paper's batch size, and the largest group that is mixed together unless asked otherwise."""

SMOOTH_OVER = ("others", "all")
SCOPES = ("group", "example")
LAYERS = ("input", "random")


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
      cut: paste a box of the partner instead of blending, lambda becoming the share of pixels that the
        example keeps (CutMix, Yun et al. 2019); for images, at the input.
      layer: "input" mixes what enters the network (for text, the embedded words); "random" mixes there or
        after one of the first two stages, drawn anew at every step (manifold mixup, Verma et al. 2019).
      clean_weight: the share w in [0, 1) of the unmixed examples in the loss, w CE(clean) + (1 - w) CE(mixed)
        (RegMixup, Pinto et al. 2022); 0 trains on mixed examples alone.  Without mixing it is of no effect.
      arc_weight: beta >= 0 of beta * (mean confidence - accuracy)^2, added to the loss of a batch
        (ARC, Maronas et al. 2020).
    """

    mixup_alpha: float = 0.0
    mix_inputs: bool = True
    mix_labels: bool = True
    label_smoothing: float = 0.0
    smooth_over: str = "others"
    entropy_weight: float = 0.0
    group_size: int = 0
    scope: str = "group"
    cut: bool = False
    layer: str = "input"
    clean_weight: float = 0.0
    arc_weight: float = 0.0

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
        if self.layer not in LAYERS:
            raise unknown_name("method.layer", self.layer, LAYERS)
        if self.cut and self.layer != "input":
            raise InputError(
                f"method.layer is {self.layer!r} with method.cut; expected 'input', since a box is pasted into an image"
            )
        if not 0 <= self.clean_weight < 1:
            raise InputError(
                f"method.clean_weight is {self.clean_weight}; expected a share in [0, 1) (0: mixed examples alone)"
            )
        if not (math.isfinite(self.arc_weight) and self.arc_weight >= 0):
            raise InputError(f"method.arc_weight is {self.arc_weight}; expected a finite number >= 0")

    @property
    def mixes(self) -> bool:
        """Whether examples are mixed at all: decided here, in Python, since Beta(0, 0) is NaN."""
        return self.mixup_alpha > 0 and (self.mix_inputs or self.mix_labels)

    def check_task(self, task: str) -> None:
        """Raises InputError if the method cannot train on this kind of data, "image" or "text"."""
        if self.cut and task != "image":
            raise InputError(
                f"method.cut is True, but the data is {task}; expected images, which a box can be pasted into"
            )

    @property
    def copies(self) -> int:
        """How many rows of the network's batch come of an example: 2 where it goes in clean as well as mixed."""
        return 2 if self.mixes and self.clean_weight else 1

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
    "feature_only": Method(mixup_alpha=0.2, mix_labels=False),
    "label_only": Method(mixup_alpha=0.2, mix_inputs=False),
    "label_smoothing": Method(label_smoothing=0.1),
    "label_smoothing_all": Method(label_smoothing=0.1, smooth_over="all"),
    "erl": Method(entropy_weight=0.1),
    "dropout": Method(),
    "cutmix": Method(mixup_alpha=1.0, cut=True),
    "manifold_mixup": Method(mixup_alpha=2.0, layer="random"),
    "regmixup": Method(mixup_alpha=20.0, clean_weight=0.5),
    "arc": Method(mixup_alpha=1.0, arc_weight=4.0),
}
"""The methods by the names they have in configs.

The first seven are the paper's, with the numbers that were best there (label_only and label_smoothing_all are
controls that it lacks, with the same numbers).  Where the other numbers are from:

  dropout: empirical risk minimisation; the rate is the network's, `config.apply_variant` sets it.
  cutmix: lambda uniform (Yun et al. 2019, section 3.1), at every step, as in their ImageNet setting.
  manifold_mixup: alpha 2 (Verma et al. 2019, section 5.1, CIFAR).
  regmixup: alpha 20 (Pinto et al. 2022, CIFAR-10; 10 on CIFAR-100); clean and mixed at equal weights, as they code it.
  arc: alpha 1 and beta 4 without bins (Maronas et al. 2020, the published command for CIFAR-10 and ResNet-18).
"""


def variant(name: str) -> Method:
    """Returns a named method; raises InputError, listing the names, for any other."""
    if name not in VARIANTS:
        raise unknown_name("config variant", name, VARIANTS)
    return VARIANTS[name]
