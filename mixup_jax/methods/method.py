"""Training methods: the numbers that make one, and the table of those that have a name.

To add a method, add its row to `VARIANTS`.  If it needs a new number, add a field to `Method` and use it in
one place: `losses.batch_loss` for a term of the loss, `mixing.mix_batch` for a way of mixing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from mixup_jax.errors import InputError, require, require_choice, unknown_name

PAPER_BATCH = 128
"""The paper's batch size, and the largest group that is mixed together unless asked otherwise."""

SMOOTH_OVER = ("others", "all")
SCOPES = ("group", "example")
LAYERS = ("input", "random")

KINDS = {"baseline": "without mixup", "mixup": "with mixup", "other": "others"}
"""What the paper's claims take a method for (`Method.kind`), and how the report calls it."""
STRENGTHS = frozenset({"mixup_alpha", "group_size", "scope", "smooth_over"})
"""Numbers that say how strongly or how finely a method works, not what it does."""
WITHOUT_EFFECT_UNMIXED = frozenset({"mix_inputs", "mix_labels", "cut", "layer", "clean_weight"})
"""Numbers that matter only where examples are mixed."""


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
        for name, meaning in (("mixup_alpha", " (0 switches mixup off)"), ("entropy_weight", ""), ("arc_weight", "")):
            value = getattr(self, name)
            in_range = math.isfinite(value) and value >= 0
            require(in_range, f"method.{name}", value, f"a finite number >= 0{meaning}")
        smoothing, clean = self.label_smoothing, self.clean_weight
        require(0 <= smoothing < 1, "method.label_smoothing", smoothing, "a number in [0, 1)")
        require(0 <= clean < 1, "method.clean_weight", clean, "a share in [0, 1) (0: mixed examples alone)")
        automatic_or_positive = "0 (automatic) or a positive number of examples"
        require(self.group_size >= 0, "method.group_size", self.group_size, automatic_or_positive)
        require_choice("method.smooth_over", self.smooth_over, SMOOTH_OVER)
        require_choice("method.scope", self.scope, SCOPES)
        require_choice("method.layer", self.layer, LAYERS)
        if self.cut and self.layer != "input":
            raise InputError(
                f"method.layer is {self.layer!r} with method.cut; expected 'input', since a box is pasted into an image"
            )

    @property
    def mixes(self) -> bool:
        """Whether examples are mixed at all: decided here, in Python, since Beta(0, 0) is NaN."""
        return self.mixup_alpha > 0 and (self.mix_inputs or self.mix_labels)

    @property
    def kind(self) -> str:
        """What the paper's claims take the method for, a key of `KINDS`.

        "mixup" mixes inputs and labels as the paper does and does nothing else; "baseline" neither mixes nor changes
        the loss or the labels; everything else is "other".
        """
        ignored = STRENGTHS if self.mixes else STRENGTHS | WITHOUT_EFFECT_UNMIXED
        changed = {each.name for each in fields(self) if getattr(self, each.name) != each.default}
        if changed - ignored:
            return "other"
        return "mixup" if self.mixes else "baseline"

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
        """Returns how many examples of a batch of `batch_size` are mixed together."""
        size = self.group_size or min(batch_size, PAPER_BATCH)
        if batch_size % size:
            raise InputError(
                f"batch_size is {batch_size}, which is no whole number of mixing groups of {size}; "
                "expected a multiple, or set method.group_size to a divisor of the batch"
            )
        return size


@dataclass(frozen=True)
class Variant:
    """A named method.

    Attributes:
      origin: "paper", what Thulasidasan et al. (NeurIPS 2019) train; "control", an experiment that separates causes;
        or "successor", a later method.
      label: what it is, in a few words.
      method: its numbers.
      dropout: rate that it gives a network without dropout; a network that has dropout keeps its own rate.
    """

    origin: str
    label: str
    method: Method = Method()
    dropout: float = 0.0


VARIANTS = {
    "erm": Variant("paper", "empirical risk minimisation"),
    "mixup": Variant("paper", "inputs and labels mixed", Method(mixup_alpha=0.2)),
    "feature_only": Variant(
        "paper", "inputs mixed, with the hard label of the larger part", Method(mixup_alpha=0.2, mix_labels=False)
    ),
    "label_only": Variant("control", "labels mixed, inputs not", Method(mixup_alpha=0.2, mix_inputs=False)),
    "label_smoothing": Variant("paper", "epsilon spread over the other classes", Method(label_smoothing=0.1)),
    "label_smoothing_all": Variant(
        "control", "epsilon spread over all classes", Method(label_smoothing=0.1, smooth_over="all")
    ),
    "erl": Variant("paper", "entropy-regularised loss", Method(entropy_weight=0.1)),
    # The paper's rate as its readers remember it; the text could not be had here.
    "dropout": Variant("paper", "dropout in the network", dropout=0.3),
    # Lambda is uniform (Yun et al. 2019, section 3.1), at every step, as in their ImageNet setting.
    "cutmix": Variant("successor", "a box of the partner is pasted", Method(mixup_alpha=1.0, cut=True)),
    # Verma et al. 2019, section 5.1, CIFAR.
    "manifold_mixup": Variant(
        "successor", "mixed at the input or at a hidden layer", Method(mixup_alpha=2.0, layer="random")
    ),
    # Pinto et al. 2022, CIFAR-10 (alpha is 10 on CIFAR-100); clean and mixed at equal weights, as they code it.
    "regmixup": Variant("successor", "clean and mixed examples together", Method(mixup_alpha=20.0, clean_weight=0.5)),
    # Without bins; Maronas et al. 2020, the published command for CIFAR-10 and ResNet-18.
    "arc": Variant(
        "successor", "mixup with a penalty on confidence minus accuracy", Method(mixup_alpha=1.0, arc_weight=4.0)
    ),
}
"""The named methods, in the order in which tables list them.

The paper's have the numbers that were best there, and the controls have the same.
"""


def variant(name: str) -> Variant:
    """Returns a named method; raises InputError, listing the names, for any other."""
    if name not in VARIANTS:
        raise unknown_name("config variant", name, VARIANTS)
    return VARIANTS[name]
