"""The figures, for the report, for notebooks and for TensorBoard.

Each is a pure function of bins, confidences or numbers.  It draws into the axes it is given, or
into a new figure, and returns the axes; `axes.figure` is the figure.  pyplot is not loaded and no
setting of the caller's changes what is drawn, or is changed.

  reliability_diagram   accuracy against confidence, with Wilson's intervals
  confidence_histogram  confidence in and out of distribution
  risk_coverage         error against the share of examples that are answered
  method_bars           numbers of several methods beside each other, with the spread over seeds
  alpha_sweep           a number against the strength of mixup
  seed_spread           the single values behind a mean and its standard deviation
  training_curve        loss and validation accuracy over the epochs
  joint_density         how confidence and accuracy are distributed together, as numbers
  density_over_epochs   the same drawn, epoch by epoch
  over_epochs           a number over the epochs, of several methods
  bin_scatter           accuracy against confidence, a point for each bin
  winning_scores        confidence of several methods on one set
"""

from mixup_jax.figures.bars import method_bars
from mixup_jax.figures.curves import alpha_sweep, risk_coverage, seed_spread, training_curve
from mixup_jax.figures.epochs import density_over_epochs, joint_density, over_epochs
from mixup_jax.figures.histogram import confidence_histogram, histogram_shares
from mixup_jax.figures.reliability import reliability_diagram, wilson_interval
from mixup_jax.figures.scatter import bin_scatter
from mixup_jax.figures.scores import winning_scores
from mixup_jax.figures.style import to_pixels, to_png, to_svg

__all__ = [
    "alpha_sweep",
    "bin_scatter",
    "confidence_histogram",
    "density_over_epochs",
    "histogram_shares",
    "joint_density",
    "method_bars",
    "over_epochs",
    "reliability_diagram",
    "risk_coverage",
    "seed_spread",
    "to_pixels",
    "to_png",
    "to_svg",
    "training_curve",
    "wilson_interval",
    "winning_scores",
]
