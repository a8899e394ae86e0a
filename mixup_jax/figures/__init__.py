"""The figures, for the report, for notebooks and for TensorBoard.

Each is a pure function of bins, confidences or numbers.  It draws into the given axes, or into a new figure, and
returns the axes; `axes.figure` is the figure.  One of several panels makes a figure and returns it.  It does not import
pyplot, and it neither uses nor changes the caller's matplotlib settings.  For each there is a function NAME_figure,
which returns a `drawn.Drawn`: the axes, a description in words, and the values that the figure shows.  The report's
table of figures (`report/figure_table.py`) uses these.

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

from mixup_jax.figures.bars import method_bars, method_bars_figure
from mixup_jax.figures.density import density_figure, density_over_epochs, joint_density
from mixup_jax.figures.drawn import Drawn
from mixup_jax.figures.epochs import over_epochs, over_epochs_figure, smoothed, training_curve, training_figure
from mixup_jax.figures.histogram import (
    confidence_figure,
    confidence_histogram,
    histogram_shares,
    winning_scores,
    winning_scores_figure,
)
from mixup_jax.figures.pictures import Shown, examples, examples_figure
from mixup_jax.figures.reliability import (
    bin_scatter,
    few,
    overlay_figure,
    reliability_diagram,
    reliability_figure,
    reliability_overlay,
    scatter_figure,
    wilson_interval,
)
from mixup_jax.figures.risk import risk_coverage, risk_coverage_figure
from mixup_jax.figures.seeds import alpha_sweep, alpha_sweep_figure, seed_spread, seed_spread_figure
from mixup_jax.figures.style import for_paper, to_pixels, to_png, to_svg, to_svg_and_png

__all__ = [
    "Drawn",
    "Shown",
    "alpha_sweep",
    "alpha_sweep_figure",
    "bin_scatter",
    "confidence_figure",
    "confidence_histogram",
    "density_figure",
    "density_over_epochs",
    "examples",
    "examples_figure",
    "few",
    "for_paper",
    "histogram_shares",
    "joint_density",
    "method_bars",
    "method_bars_figure",
    "over_epochs",
    "over_epochs_figure",
    "overlay_figure",
    "reliability_diagram",
    "reliability_figure",
    "reliability_overlay",
    "risk_coverage",
    "risk_coverage_figure",
    "scatter_figure",
    "seed_spread",
    "seed_spread_figure",
    "smoothed",
    "to_pixels",
    "to_png",
    "to_svg",
    "to_svg_and_png",
    "training_curve",
    "training_figure",
    "wilson_interval",
    "winning_scores",
    "winning_scores_figure",
]
