import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.evaluation.export import format_table
from mixup_jax.evaluation.measure import evaluate_records, examined, ood_entry, result_entry
from mixup_jax.metrics.measuring import separation
from mixup_jax.runs.records import Predictions


def measure(predictions, temperature=None, **options):
    return result_entry(predictions, examined(predictions, temperature), temperature, **options)


def measure_ood(inside, outside, temperature=None):
    return ood_entry(examined(inside, temperature), examined(outside, temperature), temperature)


def record(seed, n=300, classes=5, sharpness=1.5, **meta):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, classes)) * 3).astype(np.float32)
    labels = (logits / sharpness + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return Predictions(logits, labels, meta)


def unlabelled(seed, n=200, classes=5, **meta):
    logits = np.random.default_rng(seed).normal(size=(n, classes)).astype(np.float32)
    return Predictions(logits, np.full(n, -1), meta)


def independent(logits, labels, temperature=1.0):
    """The numbers of `measure` by scikit-learn and loops, sharing no code with it."""
    p = scipy.special.softmax(logits.astype(np.float64) / temperature, axis=1)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels

    def gaps(n_bins):
        for m in range(n_bins):
            inside = (confidence > m / n_bins) & (confidence <= (m + 1) / n_bins)
            if inside.any():
                yield inside.mean(), confidence[inside].mean(), right[inside].mean()

    golden = {
        "n": len(labels),
        "accuracy": sklearn.metrics.accuracy_score(labels, p.argmax(axis=1)),
        "nll": sklearn.metrics.log_loss(labels, p, labels=range(p.shape[1])),
        "brier": np.mean(np.sum((p - np.eye(p.shape[1])[labels]) ** 2, axis=1)),
        "mce_15": max(abs(c - a) for _, c, a in gaps(15)),
        "mean_confidence": confidence.mean(),
        "confidence_minus_accuracy": confidence.mean() - right.mean(),
    }
    for n_bins in (15, 100):
        golden[f"ece_{n_bins}"] = sum(w * abs(c - a) for w, c, a in gaps(n_bins))
        golden[f"oe_{n_bins}"] = sum(w * c * max(c - a, 0) for w, c, a in gaps(n_bins))
    return golden


def test_measure_equals_independent_code_before_and_after_the_temperature():
    predictions = record(0)
    entry = measure(predictions, temperature=1.7)
    for side, temperature in ((entry, 1.0), (entry["after_temperature"], 1.7)):
        golden = independent(predictions.logits, predictions.labels, temperature)
        assert {name: side[name] for name in golden} == pytest.approx(golden, abs=1e-9)
    only_as_trained = {"temperature", "after_temperature", "unlabelled", "posthoc"}
    assert set(entry) - set(entry["after_temperature"]) == only_as_trained
    scaled = predictions.logits.astype(np.float64) / 1.7
    for name, metric in (("classwise_ece_15", metrics.classwise_ece), ("tace_15", metrics.tace)):
        found = entry["after_temperature"][name]
        assert found == pytest.approx(metric(scaled, predictions.labels), abs=1e-9)
    assert entry["temperature"] == 1.7


def test_measure_holds_the_intervals_and_the_noise_floor():
    predictions = record(0)
    confidence, correct = metrics.confidence_and_correct(predictions.logits, predictions.labels)
    entry = measure(predictions)
    assert {"accuracy", "ece_15", "ece_100", "oe_15", "oe_100", "nll", "brier"} <= set(entry["intervals"])
    assert "mce_15" not in entry["intervals"]
    dear = set(measure(predictions, all_intervals=True)["intervals"]) - set(entry["intervals"])
    assert dear == {"adaptive_ece_15", "smooth_ece", "classwise_ece_15", "tace_15", "aurc", "e_aurc", "augrc"}
    assert entry["intervals"]["ece_100"] == list(metrics.bootstrap_intervals(confidence, correct)["ece_100"])
    assert entry["noise_floor"]["ece_15"] == metrics.noise_floor(confidence, 15)._asdict()
    assert set(entry["noise_floor"]) == {"ece_15", "ece_100"}
    assert entry["temperature"] is None
    assert entry["after_temperature"] is None


@pytest.mark.parametrize("n", [1, 3, 7, 1000])
def test_a_number_is_never_outside_its_interval(n):
    same = Predictions(np.tile([1.3, 0.1, 0.2], (n, 1)), np.full(n, 1))
    varied = record(n, n=n)
    right = 10 * np.eye(varied.logits.shape[1])[varied.labels]
    for entry in (measure(same), measure(varied), measure(Predictions(right, varied.labels))):
        assert entry["intervals"]["accuracy"][0] < entry["intervals"]["accuracy"][1]
        for name, (low, high) in entry["intervals"].items():
            least, most = {"confidence_minus_accuracy": (-1, 1), "nll": (0, np.inf), "brier": (0, 2)}.get(name, (0, 1))
            assert least <= low <= entry[name] <= high <= most


def test_further_errors_are_those_of_the_metrics():
    predictions = record(0)
    confidence, correct = metrics.confidence_and_correct(predictions.logits, predictions.labels)
    bins, entry = metrics.bin_confidences(confidence, correct, 15), measure(predictions)
    assert entry["ece_over_15"] + entry["ece_under_15"] == pytest.approx(entry["ece_15"], abs=1e-12)
    assert entry["debiased_ece_l2_15"] == pytest.approx(metrics.debiased_ece(bins, "l2"), abs=1e-12)
    assert entry["smooth_ece"] == pytest.approx(metrics.smooth_ece(confidence, correct), abs=1e-12)
    assert entry["adaptive_ece_15"] == pytest.approx(metrics.adaptive_ece(confidence, correct), abs=1e-12)
    assert entry["classwise_ece_15"] == metrics.classwise_ece(predictions.logits, predictions.labels)
    assert entry["tace_15"] == metrics.tace(predictions.logits, predictions.labels)
    parts = [entry[f"brier_{part}_15"] for part in ("reliability", "uncertainty", "within_bin_variance")]
    rest = entry["brier_resolution_15"] + entry["brier_within_bin_covariance_15"]
    assert sum(parts) - rest == pytest.approx(np.mean((confidence - correct) ** 2), abs=1e-12)


def test_unlabelled_examples_are_left_out_and_counted():
    predictions = record(1, n=50)
    more = Predictions(
        np.concatenate([predictions.logits, np.zeros((7, 5), np.float32)]),
        np.concatenate([predictions.labels, np.full(7, -1)]),
    )
    with_more, without = measure(more, 2.0), measure(predictions, 2.0)
    assert with_more.pop("unlabelled") == 7
    assert without.pop("unlabelled") == 0
    assert with_more == without


def test_a_record_without_labels_is_refused():
    with pytest.raises(InputError, match="has no labels"):
        measure(unlabelled(0))
    with pytest.raises(InputError, match="record preds has no labels"):
        evaluate_records(unlabelled(0), test_name="preds")
    with pytest.raises(InputError, match="record val has no labels"):
        evaluate_records(record(0), validation=unlabelled(0), validation_name="val")


def test_an_infinite_nll_becomes_null():
    predictions = Predictions(np.array([[0.0, -np.inf], [1.0, 0.0]]), np.array([1, 0]))
    entry = measure(predictions, temperature=2.0)
    assert entry["nll"] is None
    assert entry["after_temperature"]["nll"] is None
    assert entry["brier"] > 0
    json.dumps(entry, allow_nan=False)
    assert "infinite" in format_table(evaluate_records(predictions))


def test_measure_ood_equals_scikit_learn():
    inside, outside = record(2), unlabelled(3)
    entry = measure_ood(inside, outside, temperature=3.0)
    for side, temperature in ((entry, 1.0), (entry["after_temperature"], 3.0)):
        confidence = [
            scipy.special.softmax(r.logits.astype(np.float64) / temperature, axis=1).max(axis=1)
            for r in (inside, outside)
        ]
        truth, score = np.r_[np.zeros(300), np.ones(200)], 1 - np.concatenate(confidence)
        catching, accepting = np.sort(score[300:])[-190], np.sort(score[:300])[284]
        assert side["auroc"] == pytest.approx(sklearn.metrics.roc_auc_score(truth, score), abs=1e-9)
        assert side["aupr_out"] == pytest.approx(sklearn.metrics.average_precision_score(truth, score), abs=1e-9)
        assert side["aupr_in"] == pytest.approx(sklearn.metrics.average_precision_score(1 - truth, -score), abs=1e-9)
        assert side["fpr95_ood"] == pytest.approx(np.mean(score[:300] >= catching), abs=1e-9)
        assert side["fpr95_id"] == pytest.approx(np.mean(score[300:] <= accepting), abs=1e-9)
        assert side["mean_confidence"] == pytest.approx(confidence[1].mean(), abs=1e-9)
        assert (side["score"], side["n_in"], side["n_out"]) == ("msp", 300, 200)
    assert set(entry) - set(entry["after_temperature"]) == {"temperature", "after_temperature"}
    assert measure_ood(inside, outside)["after_temperature"] is None


def test_in_distribution_examples_count_in_ood_whether_labelled_or_not():
    inside = record(2)
    some = Predictions(inside.logits, np.where(np.arange(300) < 100, -1, inside.labels))
    assert measure_ood(some, unlabelled(3)) == measure_ood(inside, unlabelled(3))


def test_ood_with_another_number_of_classes_is_refused():
    with pytest.raises(InputError, match="record svhn has 4 classes; expected 5"):
        evaluate_records(record(0), ood={"svhn": unlabelled(0, classes=4)})


def test_the_whole_document():
    test = record(0, dataset="fashion_mnist", split="test", step=12, config={"seed": 3})
    validation = record(1, dataset="fashion_mnist", split="validation", step=12)
    noise = unlabelled(2, dataset="gaussian_noise")
    document = evaluate_records(test, validation=validation, ood={"gaussian_noise": noise})
    temperature = metrics.fit_temperature(validation.logits, validation.labels)
    assert document == {
        "schema": 1,
        "step": 12,
        "config": {"seed": 3},
        "temperature_fitted_on": "fashion_mnist/validation",
        "posthoc": {},
        "results": {
            "fashion_mnist/test": measure(test, temperature),
            "fashion_mnist/validation": measure(validation, temperature),
        },
        "ood": {"gaussian_noise": measure_ood(test, noise, temperature)},
    }
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_a_set_under_a_shift_is_measured_like_the_test_set_as_well():
    test, validation = record(0, dataset="a", split="test"), record(1, dataset="a", split="validation")
    shifted = record(2, dataset="a_fog", split="test", shift_of="a")
    labelled = record(3, dataset="b", split="test")
    document = evaluate_records(test, validation=validation, ood={"a_fog": shifted, "b": labelled})
    assert set(document["results"]) == {"a/test", "a/validation", "a_fog/test"}
    assert set(document["ood"]) == {"a_fog", "b"}
    temperature = document["results"]["a/test"]["temperature"]
    entry = document["results"]["a_fog/test"]
    assert entry["temperature"] == temperature
    for state, golden in (
        (entry, independent(shifted.logits, shifted.labels)),
        (entry["after_temperature"], independent(shifted.logits, shifted.labels, temperature)),
    ):
        for key in ("n", "accuracy", "nll", "ece_15"):
            assert state[key] == pytest.approx(golden[key], abs=1e-9)
    with pytest.raises(InputError, match="a_fog/test"):
        evaluate_records(test, ood={"a_fog": unlabelled(4, dataset="a_fog", split="test", shift_of="a")})


def test_a_lone_record_of_unknown_origin():
    document = evaluate_records(record(0), test_name="preds")
    assert document == {
        "schema": 1,
        "step": None,
        "config": None,
        "temperature_fitted_on": None,
        "posthoc": {},
        "results": {"preds": measure(record(0))},
        "ood": {},
    }


def test_step_and_config_given_outright_win():
    document = evaluate_records(record(0, step=1, config={"a": 1}), step=0, config={"b": 2})
    assert (document["step"], document["config"]) == (0, {"b": 2})


def test_a_temperature_is_never_fitted_on_the_test_record():
    test = record(0)
    copy = Predictions(test.logits.copy(), test.labels.copy())
    shuffled = np.random.default_rng(0).permutation(len(test.labels))
    for same in (copy, Predictions(test.logits[shuffled], test.labels[shuffled])):
        with pytest.raises(InputError, match="is the test record"):
            evaluate_records(test, validation=same)
    with pytest.raises(InputError, match="fashion_mnist/test is the test record"):
        evaluate_records(
            record(0, dataset="fashion_mnist", split="test"),
            validation=record(1, dataset="fashion_mnist", split="test"),
        )


def part_of(test, rows, others, n):
    """A record of n examples of which the first rows are test rows."""
    return Predictions(
        np.concatenate([test.logits[rows], others.logits[: n - len(rows)]]),
        np.concatenate([test.labels[rows], others.labels[: n - len(rows)]]),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shared", [1, 2, 3, 20, 200])
def test_validation_rows_that_are_test_rows_are_counted_and_refused_above_one_percent(shared, dtype):
    test = record(0)
    chosen = np.random.default_rng(shared).permutation(300)[:shared]
    validation = part_of(Predictions(test.logits.astype(dtype), test.labels), chosen, record(1), 200)
    mixed = np.random.default_rng(9).permutation(200)
    validation = Predictions(validation.logits[mixed], validation.labels[mixed])
    if shared > 2:
        with pytest.raises(InputError, match=f"validation record val holds {shared} of the test record's rows"):
            evaluate_records(test, validation=validation, validation_name="val")
    else:
        document = evaluate_records(test, validation=validation, validation_name="val")
        assert document["test_rows_in"] == {"val": shared}
        assert f"{shared} rows of val have the logits of a test row" in format_table(document)


@pytest.mark.parametrize(("shared", "n", "allowed"), [(1, 40, True), (2, 40, True), (3, 40, False), (2, 2, False)])
def test_one_or_two_shared_rows_do_not_stop_a_small_set_unless_they_are_all_of_it(shared, n, allowed):
    test = record(0)
    validation = part_of(test, np.arange(shared), record(1), n)
    if allowed:
        assert evaluate_records(test, validation=validation)["test_rows_in"] == {"validation": shared}
    else:
        with pytest.raises(InputError, match=f"holds {shared} of the test record's rows"):
            evaluate_records(test, validation=validation)


def test_out_of_distribution_rows_that_are_test_rows_are_said():
    test = record(0)
    document = evaluate_records(test, ood={"far": part_of(test, np.arange(7), record(1), 50), "further": record(2)})
    assert document["test_rows_in"] == {"far": 7}


def test_logits_in_few_decimals_coincide_without_a_leak():
    def coarse(seed):
        one = record(seed, n=2000, classes=2)
        return Predictions((one.logits / 4).round(1), one.labels)

    document = evaluate_records(coarse(0), validation=coarse(1))
    assert document["test_rows_in"]["validation"] > 20


def test_a_fit_says_what_it_left_out_and_that_it_is_at_a_bound():
    validation = record(1)
    logits = validation.logits.copy()
    logits[np.arange(3), validation.labels[:3]] = -np.inf
    document = evaluate_records(record(0), validation=Predictions(logits, validation.labels))
    assert document["temperature_fit"] == {"left_out": 3}
    assert "3 validation examples, whose true class has probability 0, are left out" in format_table(document)
    right = Predictions(validation.logits, validation.logits.argmax(axis=1))
    for labels, bound in ((right.labels, 0.01), (validation.logits.argmin(axis=1), 100.0)):
        document = evaluate_records(record(0), validation=Predictions(validation.logits, labels))
        assert document["temperature_fit"] == {"at_bound": bound}
        assert f"T is at its bound, {bound:g}" in format_table(document)
    assert "temperature_fit" not in evaluate_records(record(0), validation=validation)


def test_a_dead_network_says_the_same_of_other_examples():
    labels = np.arange(20) % 4
    dead = Predictions(np.zeros((20, 4), np.float32), labels), Predictions(np.zeros((20, 4), np.float32), labels[::-1])
    assert evaluate_records(dead[0], validation=dead[1])["results"]["test"]["temperature"] == 1.0


def test_records_of_another_network_are_refused():
    test = record(0, step=5, config={"seed": 0})
    with pytest.raises(InputError, match="validation record val has step 6 instead of 5"):
        evaluate_records(test, validation=record(1, step=6), validation_name="val")
    with pytest.raises(InputError, match="record mnist has config another one"):
        evaluate_records(test, ood={"mnist": unlabelled(1, config={"seed": 1})})
    with pytest.raises(InputError, match="validation record val has 4 classes"):
        evaluate_records(test, validation=record(1, classes=4), validation_name="val")


def test_the_table_names_bins_n_intervals_and_temperature():
    table = format_table(
        evaluate_records(
            record(0, n=123),
            validation=record(1),
            ood={"mnist": unlabelled(2)},
            test_name="preds",
            validation_name="val",
        )
    )
    entry = evaluate_records(record(0, n=123), test_name="preds")["results"]["preds"]
    assert "preds: n = 123" in table
    assert "val (T fitted here): n = 300" in table
    low, high = entry["intervals"]["ece_15"]
    row = next(line for line in table.splitlines() if "ECE, 15 bins" in line)
    assert f"{entry['ece_15']:.4f}  [{low:.4f}, {high:.4f}]" in row
    assert f"{entry['noise_floor']['ece_15']['mean']:.4f}" in row
    for expected in ("ECE, 100 bins", "OE, 100 bins", "T = ", "95 % interval", "AUROC", "FPR95-ood", "mnist, T = "):
        assert expected in table


def test_the_examples_of_the_metrics_page_run():
    page = Path(__file__).parents[1] / "docs" / "metrics.md"
    # doctest would read a closing fence as the last line of the output.
    text = "\n".join("" if line.startswith("```") else line for line in page.read_text().splitlines())
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    failed, attempted = doctest.DocTestRunner().run(examples)
    assert failed == 0
    assert attempted > 20


def test_records_that_name_their_data_set_alone_may_be_of_different_splits():
    test, validation = record(0, dataset="cifar10"), record(1, dataset="cifar10")
    document = evaluate_records(test, validation=validation)
    assert list(document["results"]) == ["cifar10", "cifar10 (validation)"]
    assert document["temperature_fitted_on"] == "cifar10 (validation)"


def test_all_intervals_reach_the_rank_metrics_of_every_score():
    document = evaluate_records(record(0, n=60), ood={"far": unlabelled(1, n=40)}, all_intervals=True)
    entry = document["ood"]["far"]
    for numbers in (entry, *entry["scores"].values()):
        assert set(numbers["intervals"]) == {"auroc", "aupr_in", "aupr_out", "fpr95_ood", "fpr95_id"}
        for name, (low, high) in numbers["intervals"].items():
            assert 0 <= low <= numbers[name] <= high <= 1


def test_shares_of_0_of_two_sets_that_are_apart_have_wilsons_interval():
    found = separation(np.zeros(50), np.ones(20), slow=True)["intervals"]
    assert found["fpr95_ood"] == pytest.approx(metrics.wilson_interval(0, 50))
    assert found["fpr95_id"] == pytest.approx(metrics.wilson_interval(0, 20))


def test_two_records_under_a_shift_never_share_a_name():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 40)
    right, wrong = 5.0 * np.eye(3)[labels], -5.0 * np.eye(3)[labels]
    meta = {"dataset": "d", "split": "test"}
    shifted = Predictions(wrong, labels, meta | {"shift_of": "d"})
    results = evaluate_records(Predictions(right, labels, meta), ood={"x": shifted, "y": shifted})["results"]
    assert {name: entry["accuracy"] for name, entry in results.items()} == {
        "d/test": 1.0,
        "d/test (x)": 0.0,
        "d/test (y)": 0.0,
    }


def test_an_interval_that_is_not_finite_is_left_out():
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(20, 3))
    logits[0, 1] = np.finfo(np.float64).min
    entry = evaluate_records(Predictions(logits, np.ones(20, np.int32)))["results"]["test"]
    assert entry["nll"] > 1e300
    assert "nll" not in entry["intervals"]
    json.dumps(entry, allow_nan=False)
