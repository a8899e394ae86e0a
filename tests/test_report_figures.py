import doctest
import io
import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy import stats

from mixup_jax import figures
from mixup_jax.errors import InputError
from mixup_jax.figures import (
    alpha_sweep,
    confidence_histogram,
    reliability_diagram,
    risk_coverage,
    seed_spread,
    to_pixels,
    to_png,
    to_svg,
    training_curve,
)
from mixup_jax.figures import style as style_module
from mixup_jax.figures.confidence import GRID, histogram_shares, risk_at_grid
from mixup_jax.figures.epochs import smoothed
from mixup_jax.figures.reliability import few, wilson_interval
from mixup_jax.figures.style import LINES, MARKERS, OTHER_FONTS, SKY, new_figure, style, to_svg_and_png
from mixup_jax.metrics.binning import bin_confidences
from mixup_jax.metrics.calibration import ece, oe
from mixup_jax.metrics.selective import accuracy_at_coverage


def some_bins(n_bins=15):
    rng = np.random.default_rng(3)
    confidence = np.append(rng.uniform(0.3, 1, 500), [0.0, 1.0])
    return bin_confidences(confidence, rng.random(502) < confidence**2, n_bins)


def test_reliability_bars_are_the_bins():
    bins = some_bins()
    top, bottom = reliability_diagram(bins).figure.axes
    full = bins.count > 0
    bars = [patch for patch in top.patches if to_hex(patch.get_facecolor()) == SKY]
    np.testing.assert_allclose([bar.get_height() for bar in bars], bins.accuracy[full])
    np.testing.assert_allclose([bar.get_x() for bar in bars], bins.edges[:-1][full])
    np.testing.assert_allclose([bar.get_height() for bar in bottom.patches], bins.count)
    gaps = [patch for patch in top.patches if patch.get_hatch()]
    tops = sorted(patch.get_y() + patch.get_height() for patch in gaps)
    np.testing.assert_allclose(tops, np.sort(bins.confidence[full]))


def test_bins_of_few_examples_are_fainter_than_the_others():
    bins = some_bins()
    sparse = few(bins)[bins.count > 0]
    assert sparse.any()
    assert not sparse.all()
    solid = [patch for patch in reliability_diagram(bins).patches if to_hex(patch.get_facecolor()) == SKY]
    alpha = np.array([bar.get_alpha() for bar in solid])
    assert alpha[sparse].max() < alpha[~sparse].min() / 2


def test_an_overlay_joins_the_bins_that_have_examples_enough_and_shows_the_others_apart():
    bins = {"one": some_bins(), "two": bin_confidences([0.9] * 10 + [0.1], [True] * 5 + [False] * 6, 15)}
    axes = figures.reliability_overlay(bins)
    lines = {line.get_gid(): line for line in axes.lines if line.get_gid()}
    for index, one in enumerate(bins.values()):
        enough = ~few(one) & (one.count > 0)
        sparse = few(one) & (one.count > 0)
        np.testing.assert_allclose(lines[f"curve-{index}.line"].get_xdata(), one.confidence[enough])
        np.testing.assert_allclose(lines[f"curve-{index}.line"].get_ydata(), one.accuracy[enough])
        np.testing.assert_allclose(lines[f"curve-{index}.few"].get_ydata(), one.accuracy[sparse])
    only = bin_confidences([0.9] * 10, [True] * 5 + [False] * 5, 15)
    alone = figures.reliability_overlay({"one": only, "two": only})
    to_svg(alone)
    assert alone.get_position().height > 0.5  # what is not drawn takes no room
    shares = [patch.get_data().values for patch in axes.figure.axes[1].patches]
    np.testing.assert_allclose(shares, [one.count / one.n for one in bins.values()])


def test_an_overlay_of_other_edges_or_of_nothing_is_refused():
    for bins in ({}, {"one": some_bins(15), "two": some_bins(10)}, {"none": bin_confidences([], [], 15)}):
        with pytest.raises(InputError, match="expected"):
            figures.reliability_overlay(bins)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=90))
def test_smoothing_takes_means_over_the_same_reach_on_both_sides(values):
    found = smoothed(np.array(values))
    reach = len(values) // 20
    for place, smooth in enumerate(found):
        side = min(reach, place, len(values) - 1 - place)
        assert smooth == pytest.approx(np.mean(values[place - side : place + side + 1]), abs=1e-6)


def test_a_smoothed_loss_lies_over_the_loss_as_it_was_logged():
    pairs = [(epoch, float(np.cos(epoch))) for epoch in range(40)]
    by_part = {line.get_gid(): line for line in figures.over_epochs({"mine": [pairs]}, smooth=True).lines}
    logged = [value for _, value in pairs]
    np.testing.assert_allclose(by_part["curve-0.logged"].get_ydata(), logged)
    np.testing.assert_allclose(by_part["curve-0.line"].get_ydata(), smoothed(np.array(logged)))


@pytest.mark.parametrize("n_bins", [1, 15, 100])
def test_numbers_on_the_diagram_are_those_of_its_bins(n_bins):
    bins = some_bins(n_bins)
    assert (
        reliability_diagram(bins, title="$a_b$").figure.get_suptitle()
        == f"$a_b$\nECE {ece(bins):.4f}, OE {oe(bins):.4f} ({n_bins} bins, n = 502)"
    )


def test_gap_hatching_tells_over_from_under_confidence():
    bins = bin_confidences([0.9] * 10 + [0.5] * 10, [True] * 5 + [False] * 5 + [True] * 10, 10)
    gaps = [patch for patch in reliability_diagram(bins).patches if patch.get_hatch()]
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
    axes = confidence_histogram(rng.random(100), sets)
    drawn = {patch.get_label(): patch.get_data().values for patch in axes.patches}
    assert len(drawn) == 3
    for name, confidence in sets.items():
        np.testing.assert_allclose(drawn[f"{name}, mean {confidence.mean():.3f}"], histogram_shares(confidence))
    lines = [patch for patch in axes.patches if not patch.get_fill()]
    assert len({str(patch.get_linestyle()) for patch in lines}) == 2


def test_histograms_that_are_to_be_compared_share_their_scale():
    narrow, wide = np.full(10, 0.5), np.linspace(0, 1, 200)
    tops = {confidence_histogram(inside, {}, top=0.9).get_ylim() for inside in (narrow, wide)}
    assert tops == {(0.0, 0.9)}


def test_the_same_figure_gives_the_same_bytes_whatever_the_global_settings(monkeypatch):
    import matplotlib

    first = to_svg(reliability_diagram(some_bins(), title="one").figure)
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    before = dict(matplotlib.rcParams)
    assert to_svg(reliability_diagram(some_bins(), title="one").figure) == first
    assert dict(matplotlib.rcParams) == before
    assert b"<dc:date>" not in first


def test_letters_that_the_usual_font_lacks_are_drawn_in_another_that_is_installed(tmp_path, monkeypatch, caplog):
    def drawn(text: str) -> bytes:
        with style():
            figure = new_figure(1, 1)
            figure.text(0.5, 0.5, text)
            return to_svg_and_png(figure)[1]

    style_module._say_boxes.cache_clear()
    boxes = drawn("a\u732b"), drawn("a\u732b")
    assert len(caplog.records) == 1
    assert "no font with them is installed" in caplog.text
    pen = TTGlyphPen(None)
    for number, corner in enumerate(((0, 0), (0, 900), (900, 0))):
        (pen.lineTo if number else pen.moveTo)(corner)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "cat"])
    font.setupCharacterMap({0x732B: "cat"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "cat": (1000, 0)})
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": OTHER_FONTS[0], "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "cat.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    plain = drawn("abc")
    font_manager.fontManager.addfont(tmp_path / "cat.ttf")
    assert drawn("a\u732b") != boxes[0] == boxes[1]
    assert drawn("abc") == plain
    assert len(caplog.records) == 1


def test_png_is_a_picture_and_a_curve_of_one_point_can_be_drawn():
    assert to_png(training_curve([(1, 2.0), (2, 1.0)], [(2, 0.5)])).startswith(b"\x89PNG")


def test_svg_and_png_together_are_those_drawn_alone_but_for_shifts_of_the_png_by_a_dot_or_two():
    figures_alike = [reliability_diagram(some_bins(), title="one").figure for _ in range(3)]
    svg, png = to_svg_and_png(figures_alike[0])
    assert svg == to_svg(figures_alike[1])
    together, alone = (imread(io.BytesIO(content))[:, :, :3] for content in (png, to_png(figures_alike[2])))
    ink = np.abs(1 - alone).mean()
    assert together.shape == alone.shape
    assert np.abs(together - alone).mean() < ink / 4
    np.testing.assert_allclose(np.abs(1 - together).mean(), ink, rtol=0.02)


def test_given_axes_are_drawn_into_and_the_counts_are_optional():
    figure = Figure()
    top, bottom, alone = figure.subplots(3)
    bins = some_bins()
    assert reliability_diagram(bins, top, counts_ax=bottom, title="mine") is top
    assert "mine" in top.get_title(loc="left")
    np.testing.assert_allclose([bar.get_height() for bar in bottom.patches], bins.count)
    assert reliability_diagram(bins, alone, legend=False) is alone
    assert alone.get_legend() is None
    assert len(figure.axes) == 3
    assert figure.get_suptitle() == ""


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: confidence_histogram(np.array([0.5, 1.0]), {"a": np.array([0.2])}, ax),
        lambda ax: confidence_histogram(np.array([0.5, 1.0]), {}, ax, scale="log"),
        lambda ax: risk_coverage({"a": [(np.array([0.5, 1.0]), np.array([True, False]))]}, ax),
        lambda ax: alpha_sweep({0.0: [0.1, 0.2], 0.4: [0.3]}, ax),
        lambda ax: seed_spread({"a": [0.1, 0.2], "b": [0.3]}, ax),
    ],
)
def test_every_figure_draws_into_given_axes_or_makes_its_own(draw):
    axes = Figure().subplots()
    assert draw(axes) is axes
    assert draw(None).figure.axes
    assert to_png(axes.figure) == to_png(axes.figure)


def test_a_logarithmic_histogram_begins_below_a_single_example():
    axes = confidence_histogram(np.linspace(0, 1, 200), {"few": np.array([0.5])}, scale="log")
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] == pytest.approx(1 / 400)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_risk_is_the_expected_error_of_the_surest_whatever_the_order(examples, random):
    confidence, correct = (np.array(column) for column in zip(*examples, strict=True))
    risk = risk_at_grid(confidence / 8, correct)
    for index, coverage in enumerate(GRID):
        answered = math.ceil(Fraction(str(coverage)) * len(correct))
        last = np.sort(confidence)[-answered]
        above, tied = confidence > last, confidence == last
        errors = (~correct[above]).sum() + (answered - above.sum()) * (~correct[tied]).mean()
        assert risk[index] == pytest.approx(errors / answered, abs=1e-12)
    order = random.sample(range(len(correct)), len(correct))
    np.testing.assert_array_equal(risk, risk_at_grid(confidence[order] / 8, correct[order]))
    assert 1 - risk[159] == pytest.approx(accuracy_at_coverage(-confidence, correct, 0.8))


def test_risk_of_several_seeds_is_their_mean_in_a_band():
    seeds = [(np.array([0.9, 0.8]), np.array([True, False])), (np.array([0.9, 0.8]), np.array([False, False]))]
    axes = risk_coverage({"two $x_1$": seeds})
    (line,) = axes.lines
    assert line.get_label() == "two $x_1$, mean of 2 seeds"
    assert line.get_ydata()[[0, -1]] == pytest.approx([0.5, 0.75])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.0, 1.0))


def test_sweep_shows_mean_spread_and_every_seed_at_its_alpha():
    axes = alpha_sweep({0.4: [0.1, 0.3], 0.0: [0.5], 1.0: [0.2, 0.2, 0.5]}, label="ECE")
    by_part = {line.get_gid(): line for line in axes.lines}
    assert list(axes.lines[0].get_xdata()) == [0.0, 0.4, 1.0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.5, 0.2, 0.3])
    np.testing.assert_allclose(by_part["curve-1.spread"].get_ydata(), 0.2 + np.array([-1, 1]) * np.sqrt(0.02))
    assert [float(by_part[f"value-2-{seed}.dot"].get_ydata()[0]) for seed in range(3)] == [0.2, 0.2, 0.5]
    assert "curve-0.spread" not in by_part


def test_spread_has_a_row_for_each_name_with_its_seeds():
    axes = seed_spread({"a\nb": [0.1, 0.3], "c" * 60: [0.2]})
    by_part = {line.get_gid(): line for line in axes.lines}
    assert [float(by_part[f"value-0-{seed}.dot"].get_xdata()[0]) for seed in range(2)] == [0.1, 0.3]
    np.testing.assert_allclose(by_part["curve-0.spread"].get_xdata(), 0.2 + np.array([-1, 1]) * np.sqrt(0.02))
    assert "curve-1.spread" not in by_part
    assert [text.get_text() for text in axes.texts] == ["a b", f"{'c' * 21} … {'c' * 20}"]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: reliability_diagram(bin_confidences([], [], 15)), "no example"),
        (lambda: confidence_histogram(np.array([])), "no example"),
        (lambda: confidence_histogram(np.array([50.0])), "expected values in"),
        (lambda: risk_coverage({"a": []}), "no seed"),
        (lambda: risk_coverage({"a": [(np.array([]), np.array([]))]}), "at least one"),
        (lambda: alpha_sweep({}), "empty"),
        (lambda: seed_spread({"a": []}), "values of a"),
    ],
)
def test_nothing_to_draw_is_named(draw, words):
    with pytest.raises(InputError, match=words):
        draw()


def test_pixels_are_those_of_the_figure():
    pixels = to_pixels(reliability_diagram(some_bins()).figure)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (752, 552, 3)
    assert 0.3 < (pixels == 255).all(axis=2).mean() < 0.95


def test_the_examples_of_the_documentation_run():
    page = Path(__file__).parents[1] / "docs" / "report.md"
    # doctest would read a closing fence as the last line of the output.
    text = page.read_text().replace("```", "")
    failed, attempted = doctest.DocTestRunner().run(
        doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    )
    assert attempted >= 5
    assert not failed


def test_bars_have_the_height_of_the_means_and_every_seed_its_dot():
    values = {"ECE": {"erm": [0.1, 0.3], "mixup": [0.05]}, "OE": {"mixup": [0.01]}}
    axes = figures.method_bars(values, label="error")
    bars = {patch.get_gid(): patch.get_width() for patch in axes.patches if patch.get_gid()}
    assert bars == pytest.approx({"curve-0.bar-0": 0.2, "curve-1.bar-0": 0.05, "curve-1.bar-1": 0.01})
    lines = {line.get_gid(): list(line.get_xdata()) for line in axes.lines if line.get_gid()}
    spread = np.std([0.1, 0.3], ddof=1)
    assert lines["curve-0.spread-0"] == pytest.approx([0.2 - spread, 0.2 + spread])
    assert [lines[f"value-0-{seed}.dot-0"] for seed in (0, 1)] == [[0.1], [0.3]]
    assert "value-1-0.dot-0" not in lines  # of a single seed the bar is the value
    tops = sorted((patch.get_y(), patch.get_gid()) for patch in axes.patches if patch.get_gid())
    assert [gid for _, gid in tops] == ["curve-0.bar-0", "curve-1.bar-0", "curve-1.bar-1"]


@pytest.mark.parametrize(
    "values", [{}, {"ECE": {}}, {"ECE": {"erm": []}}, {number: {"erm": [0.1]} for number in "abcde"}]
)
def test_bars_of_nothing_or_of_too_much_are_refused(values):
    with pytest.raises(InputError, match="expected"):
        figures.method_bars(values)


def test_fourteen_lines_are_told_apart_by_dashes_or_shape_wherever_they_share_a_colour():
    looks = [(colour, str(dashes), marker) for (colour, dashes), marker in zip(LINES, MARKERS, strict=True)]
    assert len(looks) >= 14
    for one, other in itertools.combinations(looks, 2):
        if one[0] == other[0]:
            assert one[1] != other[1]
            assert one[2] != other[2]


def test_letters_that_the_font_lacks_are_drawn_without_a_warning(recwarn):
    figure = Figure()
    figure.text(0.1, 0.5, "日本")
    assert all(to_svg_and_png(figure))
    assert list(recwarn) == []
