"""Training methods: the numbers that define one, and the table of named methods.

To add a method, add its row to `VARIANTS`.  If it needs a new number, add a field to `Method` and use it in
one place: `losses.batch_loss` for a term of the loss, `mixing.mix_batch` for a way of mixing.
"""

import math
import textwrap
from dataclasses import dataclass, fields

from mixup_jax.errors import InputError, require, require_choice, unknown_name

PAPER_BATCH = 128
"""The paper's batch size, and by default the largest mixing group."""

SMOOTH_OVER = ("others", "all")
SCOPES = ("group", "example")
LAYERS = ("input", "random")

KINDS = {"baseline": "without mixup", "mixup": "with mixup", "other": "others"}
"""The kinds of methods in the paper's claims (`Method.kind`), and their names in the report."""
STRENGTHS = frozenset(
    {"mixup_alpha", "group_size", "scope", "smooth_over", "focal_dual", "margin", "rank_margin", "decouple_gap"}
)
"""Numbers that say how strong a method or a term is or how examples are grouped, not what is done."""
WITHOUT_EFFECT_UNMIXED = frozenset({
    "mix_inputs", "mix_labels", "cut", "layer", "clean_weight", "rank_weight", "decouple", "kernel_spread",
    "adapt_classes",
})  # fmt: skip
"""Numbers that have an effect only if examples are mixed."""
NOT_NEGATIVE = (
    "mixup_alpha", "entropy_weight", "arc_weight", "focal_gamma", "logit_norm", "margin_weight", "margin",
    "mdca_weight", "mmce_weight", "rank_weight", "rank_margin", "kernel_spread",
)  # fmt: skip
"""Numbers that may be anything finite from 0."""


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
      clean_weight: the weight w in [0, 1] of the unmixed examples in the loss, w CE(clean) + (1 - w) CE(mixed)
        (RegMixup, Pinto et al. 2022); 0 trains on mixed examples only.  Without mixing it has no effect.
      arc_weight: beta >= 0 in beta * (mean confidence - accuracy)^2, which is added to the loss of a batch
        (ARC, Maronas et al. 2020).
      focal_gamma: 0 or gamma >= 1 of the focal loss, -(1 - p_k)^gamma log p_k for class k (Lin et al. 2017).
      focal_dual: (1 - p_k + p_j)^gamma instead, p_j the largest probability below p_k (Tao et al. 2023).
      brier_weight: the share w in [0, 1] of the Brier score, (1 - w) cross-entropy + w sum_k (p_k - target_k)^2.
      logit_norm: tau >= 0; if it is positive, the loss is that of logits / (tau |logits|) (Wei et al. 2022).
      margin_weight: a >= 0 in a * mean_k max(0, max_j z_j - z_k - margin), for logits z (Liu et al. 2022).
      margin: of `margin_weight`, >= 0; 0 is max-suppression smoothing (Zhou et al. 2025).
      mdca_weight: b >= 0 in b * mean_k |mean p_k - mean label_k|, means over the batch (Hebbalaguppe et al. 2022).
      mmce_weight: b >= 0 in b * MMCE of the batch (Kumar et al. 2018).
      rank_weight: a >= 0 in a * max(0, max_k z~_k - max_k z_k + rank_margin), for the logits z of an example and z~ of
        the same example mixed with one of another class (RankMixup, Noh et al. 2023); needs `clean_weight`.
      rank_margin: of `rank_weight`, >= 0.
      decouple: train on two mixtures of each pair; the loss is that of the pair itself, whose logits are solved from
        those of the mixtures (mixup inference in training, MIT-L, Wang et al. 2023).
      decouple_gap: the two lambdas of `decouple` are at least so far apart, in [0, 1).
      kernel_spread: s >= 0; if it is positive, each pair has an alpha of its own, mixup_alpha exp((1 - d) / (2 s^2)), d
        the squared distance of its features relative to the mean of the group (SK-Mixup, Bouniot et al. 2025).
      adapt_classes: mix only examples of the classes in which the network was over-confident at the last validation;
        none before the first (CAMixup, Wen et al. 2021).
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
    focal_gamma: float = 0.0
    focal_dual: bool = False
    brier_weight: float = 0.0
    logit_norm: float = 0.0
    margin_weight: float = 0.0
    margin: float = 0.0
    mdca_weight: float = 0.0
    mmce_weight: float = 0.0
    rank_weight: float = 0.0
    rank_margin: float = 0.0
    decouple: bool = False
    decouple_gap: float = 0.0
    kernel_spread: float = 0.0
    adapt_classes: bool = False

    def __post_init__(self) -> None:
        for name in NOT_NEGATIVE:
            value, meaning = getattr(self, name), " (0 switches mixup off)" if name == "mixup_alpha" else ""
            in_range = math.isfinite(value) and value >= 0
            require(in_range, f"method.{name}", value, f"a finite number >= 0{meaning}")
        smoothing, clean, brier, gamma = self.label_smoothing, self.clean_weight, self.brier_weight, self.focal_gamma
        require(0 <= smoothing < 1, "method.label_smoothing", smoothing, "a number in [0, 1)")
        require(0 <= clean <= 1, "method.clean_weight", clean, "a share in [0, 1] (0: mixed examples alone)")
        require(0 <= brier <= 1, "method.brier_weight", brier, "a share in [0, 1]")
        # Below 1 the gradient of (1 - p)^gamma is infinite at p = 1.
        apart = self.decouple_gap
        require(0 <= apart < 1, "method.decouple_gap", apart, "a difference in [0, 1)")
        require(gamma == 0 or gamma >= 1, "method.focal_gamma", gamma, "0 (cross-entropy) or a number >= 1")
        automatic_or_positive = "0 (automatic) or a positive number of examples"
        require(self.group_size >= 0, "method.group_size", self.group_size, automatic_or_positive)
        require_choice("method.smooth_over", self.smooth_over, SMOOTH_OVER)
        require_choice("method.scope", self.scope, SCOPES)
        require_choice("method.layer", self.layer, LAYERS)
        if self.cut and self.layer != "input":
            raise InputError(
                f"method.layer is {self.layer!r} with method.cut; expected 'input', since a box is pasted into an image"
            )
        if self.rank_weight and not self.clean_weight:
            raise InputError(
                f"method.clean_weight is 0 with method.rank_weight {self.rank_weight}; expected a share in (0, 1], "
                "since mixed examples are compared with clean ones"
            )
        if self.adapt_classes and (self.cut or self.decouple):
            raise InputError(
                "method.adapt_classes is True with another way of drawing lambda; expected cut=False and decouple=False"
            )
        if self.kernel_spread and (self.scope != "example" or self.cut or self.decouple):
            raise InputError(
                f"method.kernel_spread is {self.kernel_spread} with another way of drawing lambda; expected "
                "scope='example', cut=False and decouple=False, since each pair draws its own"
            )
        otherwise = self.clean_weight or self.cut or self.layer != "input" or not (self.mix_inputs and self.mix_labels)
        if self.decouple and otherwise:
            raise InputError(
                "method.decouple is True with another way of mixing; expected mix_inputs=True, mix_labels=True, "
                "cut=False, layer='input' and clean_weight=0, as in MIT-L"
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
        """How many rows of the network's batch an example has: 2 if it is both clean and mixed or mixed twice, or 1."""
        return 2 if self.mixes and (self.clean_weight or self.decouple) else 1

    @property
    def looks_first(self) -> bool:
        """Whether a step first computes features of the unmixed batch, which takes one more forward pass."""
        return self.mixes and self.kernel_spread > 0

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
    # 3 is remembered from Mukhoti et al. 2020, CIFAR-10; 5 is in a program of Tao et al. 2023.
    "focal": Variant("successor", "focal loss", Method(focal_gamma=3.0)),
    "dual_focal": Variant("successor", "dual focal loss", Method(focal_gamma=5.0, focal_dual=True)),
    "brier": Variant("successor", "Brier score as the loss", Method(brier_weight=1.0)),
    # The defaults of its code; logit_norm's tau is remembered.
    "mbls": Variant("successor", "margin-based label smoothing", Method(margin_weight=0.1, margin=10.0)),
    "max_suppression": Variant("successor", "max-suppression smoothing", Method(margin_weight=0.1)),
    "logit_norm": Variant("successor", "cross-entropy of normalised logits", Method(logit_norm=0.04)),
    "mdca": Variant("successor", "focal loss and a penalty by class", Method(focal_gamma=1.0, mdca_weight=1.0)),
    "mmce": Variant("successor", "a kernel's penalty on miscalibration", Method(mmce_weight=2.0)),
    # The ranking loss of their code for CIFAR-10.
    "rankmixup": Variant(
        "successor",
        "clean examples, ranked above mixed ones",
        Method(mixup_alpha=2.0, clean_weight=1.0, rank_weight=0.1, rank_margin=2.0),
    ),
    # Their published commands: alpha 1, margin 0 (MIT-L) and 1/2 (MIT-A).
    "mit": Variant(
        "successor", "two mixtures, and the loss of what they are made of", Method(mixup_alpha=1.0, decouple=True)
    ),
    "mit_apart": Variant(
        "successor",
        "the same, with lambdas at least 1/2 apart",
        Method(mixup_alpha=1.0, decouple=True, decouple_gap=0.5),
    ),
    # The defaults of their code.
    "sk_mixup": Variant(
        "successor",
        "each pair's alpha by its distance in feature space",
        Method(mixup_alpha=1.0, scope="example", kernel_spread=0.5),
    ),
    "camixup": Variant(
        "successor",
        "only over-confident classes mixed",
        Method(mixup_alpha=0.2, scope="example", adapt_classes=True),
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


def listed() -> str:
    """Returns the names of all methods in indented lines, for --help."""
    return textwrap.fill(", ".join(VARIANTS), 100, initial_indent="  ", subsequent_indent="  ")
