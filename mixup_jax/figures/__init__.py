"""The figures, for the report, for notebooks and for TensorBoard.

Each is a pure function of bins, confidences or numbers.  It draws into the given axes, or into a new figure, and
returns the axes; `axes.figure` is the figure.  One of several panels makes a figure and returns it.  It does not import
pyplot, and it neither uses nor changes the caller's matplotlib settings.  For each its module has a function
NAME_figure, which returns a `drawn.Drawn`: the axes, a description in words, and the values that the figure shows.  The
report's table of figures (`report/figure_table.py`) uses these.  All raise InputError where there is nothing to draw
(no name, no seed, no example), for a confidence outside [0, 1], and for what is malformed otherwise.

  reliability_diagram   accuracy against confidence, with Wilson's intervals
  reliability_overlay   the same of several networks in one diagram
  confidence_histogram  confidence in and out of distribution
  risk_coverage         error against the share of examples that are answered
  method_bars           numbers of several methods side by side, with the spread over seeds
  alpha_sweep           a number against the strength of mixup
  seed_spread           the single values behind a mean and its standard deviation
  training_curve        loss and validation accuracy over the epochs
  joint_density         the joint distribution of confidence and accuracy, as numbers
  density_over_epochs   the same as a figure, epoch by epoch
  over_epochs           a number over the epochs, of several methods
  bin_scatter           accuracy against confidence, a point for each bin
  winning_scores        confidence of several methods on one set
  examples              single examples as pictures, with what is said of them
"""

from mixup_jax.figures.confidence import confidence_histogram, risk_coverage, winning_scores
from mixup_jax.figures.epochs import density_over_epochs, joint_density, over_epochs, training_curve
from mixup_jax.figures.pictures import examples
from mixup_jax.figures.reliability import bin_scatter, reliability_diagram, reliability_overlay
from mixup_jax.figures.seeds import alpha_sweep, method_bars, seed_spread
from mixup_jax.figures.style import to_pixels, to_png, to_svg

__all__ = [
    "alpha_sweep", "bin_scatter", "confidence_histogram", "density_over_epochs", "examples", "joint_density",
    "method_bars", "over_epochs", "reliability_diagram", "reliability_overlay", "risk_coverage", "seed_spread",
    "to_pixels", "to_png", "to_svg", "training_curve", "winning_scores",
]  # fmt: skip
