import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from mixup_jax.metrics.calibration import bin_confidences, ece, oe
from mixup_jax.report.figures import (
    SKY,
    confidence_histograms,
    histogram_shares,
    reliability_diagram,
    to_png,
    to_svg,
    training_curve,
    wilson_interval,
)


def some_bins(n_bins=15):
    rng = np.random.default_rng(3)
    confidence = np.append(rng.uniform(0.3, 1, 500), [0.0, 1.0])
    return bin_confidences(confidence, rng.random(502) < confidence**2, n_bins)


def test_reliability_bars_are_the_bins():
    bins = some_bins()
    top, bottom = reliability_diagram(bins).axes
    full = bins.count > 0
    bars = [patch for patch in top.patches if to_hex(patch.get_facecolor()) == SKY]
    np.testing.assert_allclose([bar.get_height() for bar in bars], bins.accuracy[full])
    np.testing.assert_allclose([bar.get_x() for bar in bars], bins.edges[:-1][full])
    np.testing.assert_allclose([bar.get_height() for bar in bottom.patches], bins.count)
    gaps = [patch for patch in top.patches if patch.get_hatch()]
    tops = sorted(patch.get_y() + patch.get_height() for patch in gaps)
    np.testing.assert_allclose(tops, np.sort(bins.confidence[full]))


@pytest.mark.parametrize("n_bins", [1, 15, 100])
def test_numbers_on_the_diagram_are_those_of_its_bins(n_bins):
    bins = some_bins(n_bins)
    assert (
        reliability_diagram(bins, title="$a_b$").get_suptitle()
        == f"$a_b$\nECE {ece(bins):.4f}, OE {oe(bins):.4f} ({n_bins} bins, n = 502)"
    )


def test_gap_hatching_tells_over_from_under_confidence():
    bins = bin_confidences([0.9] * 10 + [0.5] * 10, [True] * 5 + [False] * 5 + [True] * 10, 10)
    gaps = [patch for patch in reliability_diagram(bins).axes[0].patches if patch.get_hatch()]
    assert len({patch.get_hatch() for patch in gaps}) == 2


def test_wilson_interval_is_scipys_and_empty_bins_have_none():
    correct, count = np.array([0.0, 3.0, 10.0, 50.0]), np.array([4, 10, 10, 1000])
    low, high = wilson_interval(correct, count)
    for index, (successes, trials) in enumerate(zip(correct, count, strict=True)):
        expected = stats.binomtest(int(successes), int(trials)).proportion_ci(method="wilson")
        assert (low[index], high[index]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert np.isnan(wilson_interval(np.array([0.0]), np.array([0]))).all()


def test_histogram_shares_count_every_example_once():
    assert histogram_shares(np.array([0.0, 0.05, 0.95, 1.0])) == pytest.approx([0.5, *[0] * 17, 0.25, 0.25])


def test_histogram_lines_are_the_ood_sets():
    rng = np.random.default_rng(0)
    sets = {"mnist": rng.random(50), "noise & more": rng.random(70)}
    figure = confidence_histograms(rng.random(100), sets)
    drawn = {patch.get_label(): patch.get_data().values for patch in figure.axes[0].patches}
    assert len(drawn) == 3
    for name, confidence in sets.items():
        np.testing.assert_allclose(drawn[f"{name}, mean {confidence.mean():.3f}"], histogram_shares(confidence))
    lines = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert len({str(patch.get_linestyle()) for patch in lines}) == 2


def test_histograms_that_are_to_be_compared_share_their_scale():
    narrow, wide = np.full(10, 0.5), np.linspace(0, 1, 200)
    tops = {confidence_histograms(inside, {}, top=0.9).axes[0].get_ylim() for inside in (narrow, wide)}
    assert tops == {(0.0, 0.9)}


def test_the_same_figure_gives_the_same_bytes_whatever_the_global_settings(monkeypatch):
    import matplotlib

    first = to_svg(reliability_diagram(some_bins(), title="one"))
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    before = dict(matplotlib.rcParams)
    assert to_svg(reliability_diagram(some_bins(), title="one")) == first
    assert dict(matplotlib.rcParams) == before
    assert b"<dc:date>" not in first


def test_png_is_a_picture_and_a_curve_of_one_point_can_be_drawn():
    assert to_png(training_curve([(1, 2.0), (2, 1.0)], [(2, 0.5)])).startswith(b"\x89PNG")
