"""The study's records lose nothing that is printed; its pairs, intervals and corrections are the textbook's."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mixup_jax import metrics
from mixup_jax.data.synthetic import KINDS, PLANS
from mixup_jax.grid import load_grid
from mixup_jax.runs.files import write_json
from mixup_jax.runs.records import Predictions, load_record, save_predictions
from mixup_jax.runs.workdir import record_path
from studies.settled import answers, numbers, page, records, rounding
from studies.settled.intervals import compare, corrected


def made(rows: int, seed: int, classes: int = 10) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, rows, dtype=np.int32)
    logits = generator.normal(0, 2, (rows, classes)).astype(np.float32)
    logits[np.arange(rows), labels] += 4
    return Predictions(logits, labels)


def run_folder(folder, alpha=0.2, seed=0, width=8):
    """A finished run of images whose test set is as large as Fashion-MNIST's."""
    config = {
        "seed": seed,
        "data": {"name": "fashion_mnist", "crop_padding": 0, "train_examples": 1000},
        "method": {"mixup_alpha": alpha},
        "model": {"name": "resnet8", "width": width},
        "epochs": 40,
    }
    sizes = {"fashion_mnist/test": 10_000, "fashion_mnist/validation": 5000, "corrupted/test": 900, "mnist/test": 900}
    for number, (name, rows) in enumerate(sizes.items()):
        dataset, split = name.split("/")
        meta = {"dataset": dataset, "split": split, "config": config, "step": 7}
        if dataset == "corrupted":
            meta["shift_of"] = "fashion_mnist"
        plain = made(rows, 10 * seed + number)
        save_predictions(record_path(folder, name, 7), Predictions(plain.logits, plain.labels, meta))
    write_json(
        folder / "evaluation.json",
        {
            "step": 7,
            "config": config,
            "results": {"fashion_mnist/test": {}, "fashion_mnist/validation": {}, "corrupted/test": {}},
            "ood": {"corrupted": {}, "mnist": {}},
        },
    )
    (folder / "metrics.jsonl").write_text('{"step": 5, "train_loss": 0.5}\n{"step": 7, "train_loss": 0.25}\n')
    return folder


def test_kept_records_are_the_first_rows_and_give_the_same_numbers_to_three_digits(tmp_path):
    run = run_folder(tmp_path / "runs" / "a-0")
    assert records.main([str(tmp_path / "runs"), str(tmp_path / "kept")]) == 0
    whole = load_record(record_path(run, "fashion_mnist/test", 7))
    kept = load_record(record_path(tmp_path / "kept" / "a-0", "fashion_mnist/test", 7))
    assert len(kept.labels) == 3500
    np.testing.assert_array_equal(kept.labels, whole.labels[:3500])
    np.testing.assert_array_equal(kept.logits.argmax(axis=1), whole.logits[:3500].argmax(axis=1))
    gaps = whole.logits[:3500] - whole.logits[:3500].max(axis=1, keepdims=True)
    np.testing.assert_allclose(kept.logits, gaps, rtol=5e-4)
    assert "config" not in kept.meta
    network = numbers.load_network(tmp_path / "kept" / "a-0")
    assert (network.regime.size, network.alpha, network.seed) == (1000, 0.2, 0)
    assert network.numbers["train_loss"] == 0.25
    for key, value in rounding.moved(run, tmp_path / "kept" / "a-0").items():
        # An example that crosses the edge of a bin moves ECE by the weight of one example.
        assert value < (1e-3 if "shift_ece" in key else 5e-4), key


def test_what_is_measured_agrees_with_the_package_on_each_number(tmp_path):
    found = numbers.measured(numbers.load_records(run_folder(tmp_path / "a-0")), "fashion_mnist")
    test, held_out = made(10_000, 0), made(5000, 1)
    temperature = metrics.fit_temperature(held_out.logits, held_out.labels)
    scaled = metrics.scale(test.logits, temperature)
    assert found["nll_t"] == pytest.approx(metrics.nll(scaled, test.labels))
    assert found["refinement"] <= found["nll_t"] <= found["nll"]
    confidence, correct = metrics.confidence_and_correct(scaled, test.labels)
    assert found["ece_t"] == pytest.approx(metrics.ece(metrics.bin_confidences(confidence, correct, 15)))
    assert found["gap_t"] == pytest.approx(confidence.mean() - correct.mean())
    assert found["auroc/mnist"] == pytest.approx(
        metrics.auroc(metrics.msp_score(test.logits), metrics.msp_score(made(900, 3).logits))
    )
    assert "shift_ece_t" in found
    assert "auroc/corrupted" not in found


def test_kinds_of_corruption_are_told_apart_by_their_rows():
    record = made(900, 5)
    rows = numbers.corrupted_rows(900)
    assert len(set(rows)) == 900
    rotated = np.isin(rows % 12, (9, 10, 11))  # the last three of the mixture
    expected = metrics.nll(record.logits[rotated], record.labels[rotated])
    assert numbers.by_kind(record, 2.0)["rotation_nll"] == pytest.approx(expected)
    assert PLANS["corrupted"][9:] == (("rotation", 1), ("rotation", 2), ("rotation", 3))


def test_corrupted_records_are_of_the_test_images_that_the_rows_say():
    kept = sorted((Path(__file__).parents[1] / records.FOLDER).glob("images_*"))
    if not kept:
        pytest.skip("no records yet")
    found = numbers.load_records(kept[0])
    test, corrupted = found["fashion_mnist/test"], found["corrupted/test"]
    rows = numbers.corrupted_rows(len(corrupted.labels))
    known = rows < len(test.labels)
    np.testing.assert_array_equal(corrupted.labels[known], test.labels[rows[known]])


def test_checkpoints_are_kept_of_the_named_runs_alone(tmp_path):
    assert len(records.WITH_CHECKPOINT) == 10
    for name in (records.WITH_CHECKPOINT[3], "images_1000_plain_alpha_0-1"):
        (run_folder(tmp_path / "runs" / name) / "checkpoints" / "7").mkdir(parents=True)
    records.main([str(tmp_path / "runs"), str(tmp_path / "kept")])
    found = [path.parent.name for path in (tmp_path / "kept").glob("*/checkpoints")]
    assert found == [records.WITH_CHECKPOINT[3]]


def test_the_grid_leaves_out_runs_whose_records_are_kept(tmp_path, monkeypatch):
    grid = Path(__file__).parents[1] / "configs" / "grids" / "settled.py"
    every = [run.name for run in load_grid(grid)]
    assert len(every) == page.PLANNED + 50
    assert set(records.WITH_CHECKPOINT) <= set(every)
    run_folder(tmp_path / "runs" / every[3])
    records.main([str(tmp_path / "runs"), str(tmp_path / "kept")])
    monkeypatch.setenv("SETTLED_KEPT", str(tmp_path / "kept"))
    assert [run.name for run in load_grid(grid)] == every[:3] + every[4:]


def test_pairs_are_of_one_seed_and_regime(tmp_path):
    for alpha, seeds in ((0.0, (0, 1, 2)), (0.2, (2, 1))):
        for seed in seeds:
            run_folder(tmp_path / "runs" / f"a{alpha}-{seed}", alpha, seed)
    records.main([str(tmp_path / "runs"), str(tmp_path / "kept")])
    study = numbers.load_study(tmp_path / "kept")
    (regime,) = numbers.regimes(study)
    found = numbers.differences(study, regime, 0.2, "acc")
    assert list(found) == [1, 2]
    assert found[2] == study[regime, 0.2][2]["acc"] - study[regime, 0.0][2]["acc"]
    assert numbers.differences(study, regime, 0.4, "acc") == {}


def test_intervals_are_those_of_the_paired_t_test():
    values = [0.3, 0.1, 0.4, 0.15, 0.2]
    one, expected = compare(values), stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)
    assert (one.mean, one.p, one.n) == (pytest.approx(0.23), pytest.approx(expected.pvalue), 5)
    assert (one.low, one.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert compare(values[:2]).verdict == "too few seeds"


def test_holm_steps_down_and_never_crosses():
    some = [
        compare(np.array([1.0, 1.1, 0.9, 1.05, 0.95]) * scale + shift) for scale, shift in ((1, 0), (1, -0.9), (2, -2))
    ]
    raw = [one.p for one in some]
    order = np.argsort(raw)
    expected = np.maximum.accumulate(np.minimum(1, np.array(raw)[order] * [3, 2, 1]))
    np.testing.assert_allclose([corrected(some)[place].p for place in order], expected)
    assert [one.n for one in corrected([*some, compare([1.0])])] == [5, 5, 5, 1]
    assert corrected([*some, compare([1.0])])[0].p == corrected(some)[0].p


def test_no_gain_is_said_only_if_the_whole_interval_excludes_it():
    one = compare([-0.004, -0.003, -0.002, -0.003, -0.003])
    assert one.no_gain(0.005)
    assert not one.no_gain(0.003)
    assert compare([0.004, 0.003, 0.002, 0.003, 0.003]).no_gain(0.005, lower_is_better=False)


def test_a_page_is_written_of_any_part_of_the_grid(tmp_path):
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    run_folder(runs / "erm-0", 0.0, 0)
    records.main([str(runs), str(kept)])
    page.main([str(kept)])
    assert "1 of 275 networks are here" in (kept / "README.md").read_text()
    assert page.NOT_YET in (kept / "README.md").read_text()
    for seed in range(4):
        for alpha in (0.0, 0.2):
            run_folder(runs / f"a{alpha}-{seed}", alpha, seed)
            run_folder(runs / f"images_1000_width_16_alpha_{alpha}-{seed}", alpha, seed, width=16)
    records.main([str(runs), str(kept)])
    page.main([str(kept)])
    text = (kept / "README.md").read_text()
    study = numbers.load_study(kept)
    regime = numbers.Regime("images", "plain", 1000)
    values = [study[regime, 0.2][seed]["nll_t"] - study[regime, 0.0][seed]["nll_t"] for seed in range(4)]
    assert answers.shown(compare(values)) in text
    grid, _, later = text.partition("## Later blocks")
    wide = numbers.Regime("images", "width 16", 1000)
    assert "width 16" not in grid
    assert "8 of 50 networks are here" in later
    assert f"With width 16 at 1,000 images, ERM's gap is {signed_mean(study, wide)} instead of" in later
    assert f"instead of {signed_mean(study, regime)}, and mixup changes ECE by" in later
    assert "R1 has the sign right in" in later
    assert "| 1,000 images, width 16 | 4 |" in later
    records_of_wide = numbers.load_records(kept / "images_1000_width_16_alpha_0.0-0")
    assert {name: len(one.labels) for name, one in records_of_wide.items()} == {
        "fashion_mnist/test": 2000,
        "fashion_mnist/validation": 800,
    }
    assert page.NOT_YET not in text
    for name in ("before", "after", "ood", "shift", "size"):
        assert (kept / "figures" / f"{name}.svg").read_bytes().startswith(b"<?xml")


def signed_mean(study, regime):
    return answers.signed(np.mean([study[regime, 0.0][seed]["gap"] for seed in range(4)]))


def invented(effect, *, seeds=5, images=(1000, 2500, 10_000, 55_000)):
    """A study in which mixup changes ECE and NLL, before and after temperature, as `effect(gap of ERM)` says."""
    study, generator = {}, np.random.default_rng(2)  # not 0, whose noise is significant by chance
    for plan in ("plain", "augmented"):
        for place, size in enumerate(images):
            gap, regime = 0.09 - 0.03 * place, numbers.Regime("images", plan, size)
            for alpha in (0.0, *answers.ALPHAS):
                for seed in range(seeds):
                    one = dict.fromkeys(("acc", "nll", "refinement", "shift_nll", "shift_acc", "shift_nll_t"), 0.5)
                    one |= dict.fromkeys(("ece", "ece_t", "nll_t", "shift_ece", "shift_ece_t"), 0.1)
                    one |= {
                        "gap": gap,
                        "val_gap": gap,
                        "shift_gap": gap + 0.2,
                        "train_loss": 0.01 if gap > 0.02 else 0.3,
                    }
                    one |= {f"{kind}_{key}": 0.5 for kind in KINDS for key in ("acc", "nll", "nll_t")}
                    for name in ("mnist", "gaussian_noise"):
                        one |= {f"conf/{name}": 0.7, f"auroc/{name}": 0.8}
                    if alpha:
                        one |= {key: one[key] + value for key, value in effect(gap, alpha).items()}
                    noise = generator.normal(0, 1e-4)
                    study.setdefault((regime, alpha), {})[seed] = {key: value + noise for key, value in one.items()}
    return study


def sections(effect, **options):
    study = invented(effect, **options)
    return {
        name: section(study)[0].partition("\n")[0]
        for name, section in zip("1234567", answers.SECTIONS.values(), strict=True)
    }


def test_verdicts_follow_from_what_mixup_does():
    like_the_hypotheses = sections(
        lambda gap, alpha: {
            "ece": abs(gap - answers.SHARE[alpha] / 2) - abs(gap),
            "gap": -answers.SHARE[alpha] / 2 + 0.01 * np.cos(1000 * gap),
            "shift_ece": -0.03,
        }
    )
    for name in "12346":
        assert "supported" in like_the_hypotheses[name], like_the_hypotheses[name]
    assert "R2 is right in 8 of 8, more often than a constant" in like_the_hypotheses["7"]
    assert "R1 is right in 32 of 32" in like_the_hypotheses["7"]
    helps_everywhere = sections(
        lambda gap, alpha: {
            "ece": -0.02,
            "ece_t": -0.01,
            "nll_t": -0.05,
            "auroc/mnist": 0.05,
            "shift_nll_t": -0.1,
            "gap": -0.4,
        }
    )
    for name in "12346":
        assert "refuted" in helps_everywhere[name], helps_everywhere[name]
    assert "no more often than a constant" in helps_everywhere["7"]


def test_two_seeds_decide_nothing():
    for name, answer in sections(lambda gap, alpha: {"ece": -0.02, "gap": -0.05}, seeds=2).items():
        assert "supported" not in answer, name
        assert "refuted" not in answer, name


def test_the_answers_replace_what_stood_between_their_marks_and_nothing_else():
    document = "a\n<!-- settled -->\nold\n<!-- settled end -->\nb\n"
    renewed = page.between(document, "new")
    assert renewed == "a\n<!-- settled -->\nnew\n<!-- settled end -->\nb\n"
    assert page.between(renewed, "new") == renewed
    for unmarked in ("a\nb\n", "a\n<!-- settled -->\nb\n"):
        assert page.between(unmarked, "new") == unmarked


def test_later_blocks_are_set_beside_the_regimes_of_their_size():
    study = invented(lambda gap, alpha: {"ece": -0.03 if gap >= answers.SHARE[alpha] / 4 else 0.03})
    long, plain = (numbers.Regime("images", plan, 55_000) for plan in ("40 epochs", "plain"))
    later = {(long, alpha): study[numbers.Regime("images", "plain", 1000), alpha] for alpha in (0.0, 0.2)}
    text, _, table = answers.later_blocks(study, later).partition("\n\n")
    gaps = answers.gaps_of_erm(study)
    assert f"ERM's gap is +0.090 instead of {answers.signed(gaps[plain])}, and mixup changes ECE by \u22120.03" in text
    assert "(lower) instead of +0.030 (higher), and NLL after a temperature by" in text
    assert text.endswith("R1 has the sign right in 1 of 1 of these regimes.")
    assert "pooled" not in table
