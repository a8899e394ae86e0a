"""Training methods: the numbers that define one, and the table of named methods.

To add a method, add its row to `VARIANTS`.  If it needs a new number, add a field to `Method` and use it in
one place: `losses.batch_loss` for a term of the loss, `mixing.mix_batch` for a way of mixing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from mixup_jax.errors import InputError, require, require_choice, unknown_name

PAPER_BATCH = 128
"""The paper's batch size, and by default the largest mixing group."""

SMOOTH_OVER = ("others", "all")
SCOPES = ("group", "example")
LAYERS = ("input", "random")

KINDS = {"baseline": "without mixup", "mixup": "with mixup", "other": "others"}
"""The kinds of methods in the paper's claims (`Method.kind`), and their names in the report."""
STRENGTHS = frozenset({"mixup_alpha", "group_size", "scope", "smooth_over"})
"""Numbers that say how strong a method is or how it groups examples, not what it does."""
WITHOUT_EFFECT_UNMIXED = frozenset({"mix_inputs", "mix_labels", "cut", "layer", "clean_weight"})
"""Numbers that have an effect only if examples are mixed."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """The numbers that make a training method; the defaults are empirical risk minimisation (ERM).

    Attributes:
      mixup_alpha: lambda ~ Beta(alpha, alpha); 0 switches mixing off (Zhang et al. 2018).
      mix_inputs: mix the inputs.  False, with `mix_labels`, is label-only mixing.
      mix_labels: mix the labels.  If False, the mixed input gets the hard label of its larger part
        (feature-only mixing, a control experiment of the paper).
      label_smoothing: epsilon in [0, 1), the probability moved away from the label.
      smooth_over: "others" spreads epsilon over the K - 1 other classes (the paper's form), "all"
        over all K classes (Szegedy et al. 2016; also the form of optax and Keras).
      entropy_weight: kappa >= 0 in cross-entropy - kappa * H(p), H in nats per example
        (Pereyra et al. 2017).
      group_size: how many consecutive examples of the global batch share one lambda and one random
        permutation; 0 takes the whole batch, up to 128 (the paper's batch).
      scope: "group" draws one lambda for a group (the paper), "example" one for each example.
      cut: paste a box of the partner instead of blending (CutMix, Yun et al. 2019); lambda is then the share of
        pixels that the example keeps.  For images, at the input.
      layer: "input" mixes the inputs of the network (for text, the embedded words); "random" mixes there or
        after one of the first two stages, drawn at every step (manifold mixup, Verma et al. 2019).
      clean_weight: the weight w in [0, 1) of the unmixed examples in the loss, w CE(clean) + (1 - w) CE(mixed)
        (RegMixup, Pinto et al. 2022); 0 trains on mixed examples only.  Without mixing it has no effect.
      arc_weight: beta >= 0 in beta * (mean confidence - accuracy)^2, which is added to the loss of a batch
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
        """Whether examples are mixed; a Python bool, because Beta(0, 0) would be NaN."""
        return self.mixup_alpha > 0 and (self.mix_inputs or self.mix_labels)

    @property
    def kind(self) -> str:
        """The kind of the method in the paper's claims, a key of `KINDS`.

        "mixup" mixes inputs and labels as in the paper and does nothing else; "baseline" does not mix and does not
        change the loss or the labels; every other method is "other".
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
        """How many rows of the network's batch an example has: 2 if it is used both clean and mixed, else 1."""
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
      origin: "paper" for a method of Thulasidasan et al. (NeurIPS 2019); "control" for an experiment that separates
        causes; "successor" for a later method.
      label: a description in a few words.
      method: its numbers.
      dropout: the rate for a network without dropout; a network with dropout keeps its rate.
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
    # The paper's rate from memory: its text was not available when this was written.
    "dropout": Variant("paper", "dropout in the network", dropout=0.3),
    # Lambda is uniform (Yun et al. 2019, section 3.1), and every step mixes, as in their ImageNet setting.
    "cutmix": Variant("successor", "a box of the partner is pasted", Method(mixup_alpha=1.0, cut=True)),
    # Verma et al. 2019, section 5.1, CIFAR.
    "manifold_mixup": Variant(
        "successor", "mixed at the input or at a hidden layer", Method(mixup_alpha=2.0, layer="random")
    ),
    # Pinto et al. 2022, CIFAR-10 (alpha is 10 on CIFAR-100); equal weights of clean and mixed, as in their code.
    "regmixup": Variant("successor", "clean and mixed examples together", Method(mixup_alpha=20.0, clean_weight=0.5)),
    # Without bins; from the published command of Maronas et al. 2020 for CIFAR-10 and ResNet-18.
    "arc": Variant(
        "successor", "mixup with a penalty on confidence minus accuracy", Method(mixup_alpha=1.0, arc_weight=4.0)
    ),
}
"""The named methods, in the order in which tables list them.

The paper's methods have the numbers that were best in the paper, and so have the controls.
"""


def variant(name: str) -> Variant:
    """Returns a named method; raises InputError, listing the names, for any other."""
    if name not in VARIANTS:
        raise unknown_name("config variant", name, VARIANTS)
    return VARIANTS[name]
