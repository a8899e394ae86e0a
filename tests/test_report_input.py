"""Whatever is wrong with the files of a run, the report says it in one line and writes nothing."""

import json
import shutil

import pytest
from report_runs import STEP, make_run, reconfigure, rewrite

from mixup_jax.errors import InputError
from mixup_jax.report.__main__ import main
from mixup_jax.report.build import build_report
from mixup_jax.report.runs import load_run
from mixup_jax.runs.records import load_record, save_predictions

TEST = ("results", "fashion_mnist/test")
AFTER = (*TEST, "after_temperature")
MNIST = ("ood", "mnist")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("original") / "erm-0", n=60)


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "erm-0")


def put(value, path, new):
    for key in path[:-1]:
        value = value.setdefault(key, {}) if isinstance(value, dict) else value[key]
    value[path[-1]] = new


def refusal(folder, output):
    with pytest.raises(InputError) as caught:
        main([str(folder), f"--output={output}"])
    assert not output.exists()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    message.encode()
    return message


def write_raw(path, where, raw):
    """Puts a text into a JSON file as it is."""
    value = json.loads(path.read_text())
    put(value, where, "@@")
    path.write_text(json.dumps(value).replace('"@@"', raw))


NUMBERS = [
    *[(*TEST, key) for key in ("accuracy", "nll", "brier", "ece_15", "oe_100", "mce_15", "mean_confidence")],
    *[(*TEST, "aurc"), (*TEST, "smooth_ece"), (*TEST, "accuracy_at_coverage", "0.8"), (*TEST, "temperature")],
    *[(*TEST, "noise_floor", "ece_15", "mean"), (*AFTER, "ece_15"), (*AFTER, "nll")],
    *[(*MNIST, "auroc"), (*MNIST, "mean_confidence"), (*MNIST, "scores", "energy", "auroc")],
    *[("training_seconds",), ("config", "method", "mixup_alpha")],
]
NO_NUMBERS = ['"hot"', "true", "NaN", "-Infinity", "1e999", "1" + "0" * 400, "1" + "0" * 5000, "[1]", "{}"]


@pytest.mark.parametrize("where", NUMBERS, ids=lambda where: ".".join(where))
def test_what_is_no_finite_number_is_named(folder, tmp_path, where):
    original = (folder / "evaluation.json").read_text()
    for raw in NO_NUMBERS:
        (folder / "evaluation.json").write_text(original)
        write_raw(folder / "evaluation.json", where, raw)
        message = refusal(folder, tmp_path / "out")
        assert str(folder / "evaluation.json") in message
        assert where[-1] in message


@pytest.mark.parametrize("where", [(*TEST, "n"), (*AFTER, "n"), (*MNIST, "n_in"), (*MNIST, "n_out"), ("step",)])
@pytest.mark.parametrize("raw", ["true", "10000.0", "-1", '"60"', "null", "1" + "0" * 400, "[]"])
def test_what_is_no_count_is_named(folder, tmp_path, where, raw):
    write_raw(folder / "evaluation.json", where, raw)
    message = refusal(folder, tmp_path / "out")
    assert str(folder / "evaluation.json") in message
    assert where[-1] in message


MALFORMED = {
    "interval of texts": ((*TEST, "intervals", "ece_15"), '["a", "b"]'),
    "half an interval": ((*TEST, "intervals", "ece_15"), "[null, 1]"),
    "interval of booleans": ((*TEST, "intervals", "accuracy"), "[false, true]"),
    "interval that is a text": ((*TEST, "intervals", "oe_15"), '"x"'),
    "long interval": ((*AFTER, "intervals", "ece_15"), "[0, 1, 2]"),
    "interval upside down": ((*AFTER, "intervals", "ece_15"), "[1, 0]"),
    "interval of AUROC": ((*MNIST, "intervals", "auroc"), "[0]"),
    "intervals": ((*TEST, "intervals"), "[]"),
    "noise floor": ((*TEST, "noise_floor"), '"low"'),
    "part of the noise floor": ((*TEST, "noise_floor", "ece_15"), "0.01"),
    "temperature 0": ((*TEST, "temperature"), "0"),
    "temperature -1": ((*TEST, "temperature"), "-1"),
    "no temperature": ((*TEST, "temperature"), "null"),
    "temperature of an OOD set": ((*MNIST, "temperature"), "0"),
    "result": (TEST, "3"),
    "results": (("results",), "[1]"),
    "ood": (("ood",), "7"),
    "ood set": (MNIST, "[]"),
    "scores": ((*MNIST, "scores"), "[]"),
    "after_temperature": (AFTER, '"warm"'),
    "config": (("config",), "null"),
    "schema": (("schema",), "true"),
    "seed": (("config", "seed"), '"x"'),
    "mixup_alpha": (("config", "method", "mixup_alpha"), '"x"'),
    "mix_inputs": (("config", "method", "mix_inputs"), "1"),
    "experiment": (("config", "experiment"), '"\\ud800"'),
    "notes": (("config", "notes"), '"\\u0000"'),
    "d800": (("ood", "d800"), "{}"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_named(folder, tmp_path, name):
    where, raw = MALFORMED[name]
    write_raw(folder / "evaluation.json", where, raw)
    message = refusal(folder, tmp_path / "out")
    assert str(folder / "evaluation.json") in message
    assert where[-1] in message


FILES = ["evaluation.json", "config.json", "metrics.jsonl"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", [b"\xff\xfe{}", b'{"a": ' + b"[" * 100_000, b'{"a": "\xc3\x28"}\n{}', b"{'a': 1}\n{}", b"[" * 90 + b"]"]
)
def test_a_file_that_is_no_json_is_named(folder, tmp_path, name, content):
    (folder / name).write_bytes(content + b"\n")
    assert str(folder / name) in refusal(folder, tmp_path / "out")


@pytest.mark.parametrize("depth", [60, 400])
def test_what_is_nested_too_deeply_is_named(folder, tmp_path, depth):
    write_raw(folder / "evaluation.json", ("config", "notes"), '{"a":' * depth + "1" + "}" * depth)
    assert "levels deep" in refusal(folder, tmp_path / "out")


def test_a_name_of_half_a_character_is_named(folder, tmp_path):
    def spoil(evaluation):
        evaluation["ood"]["\ud800"] = evaluation["ood"]["mnist"]

    rewrite(folder / "evaluation.json", spoil)
    assert "\\ud800" in refusal(folder, tmp_path / "out")


def test_a_name_too_long_for_a_file_is_refused(folder, tmp_path):
    def spoil(evaluation):
        evaluation["ood"]["x" * 300] = evaluation["ood"]["mnist"]

    rewrite(folder / "evaluation.json", spoil)
    assert "cannot be the name" in refusal(folder, tmp_path / "out")


@pytest.mark.parametrize("meta", [{"source": "\ud800"}, {"versions": {"\ud800": 1}}, {"machine": "\x00"}])
def test_origins_that_cannot_be_printed_are_named(folder, tmp_path, meta):
    path = folder / "predictions" / f"fashion_mnist-test-{STEP}.npz"
    record = load_record(path)
    save_predictions(path, type(record)(record.logits, record.labels, {**record.meta, **meta}))
    message = refusal(folder, tmp_path / "out")
    assert str(path) in message
    assert "meta" in message


CHECKED = [
    *[
        (*part, key)
        for part in (TEST, AFTER)
        for key in ("accuracy", "nll", "brier", "ece_15", "ece_100", "oe_15", "oe_100", "mce_15", "mean_confidence")
    ],
    *[(*part, "confidence_minus_accuracy") for part in (TEST, AFTER)],
    *[(*TEST, key) for key in ("adaptive_ece_15", "aurc", "e_aurc", "brier_reliability_15", "debiased_ece_l2_15")],
    (*TEST, "accuracy_at_coverage", "0.8"),
    *[
        (*part, key)
        for part in (MNIST, (*MNIST, "after_temperature"))
        for key in ("auroc", "aupr_in", "aupr_out", "fpr95_ood", "fpr95_id", "mean_confidence")
    ],
    *[(*MNIST, "scores", score, "auroc") for score in ("entropy", "energy", "max_logit")],
    (*MNIST, "temperature"),
]


def test_every_number_is_held_against_the_records(folder):
    path = folder / "evaluation.json"
    original = path.read_text()
    for where in CHECKED:
        evaluation = json.loads(original)
        found = evaluation
        for key in where:
            found = found[key]
        put(evaluation, where, found + 1e-6)
        path.write_text(json.dumps(evaluation))
        with pytest.raises(InputError) as caught:
            load_run(folder)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert where[-1] in message
        assert f"{found + 1e-6} " in message or f"{found + 1e-6}," in message
        assert message.endswith(f"python -m mixup_jax.evaluate --workdir={folder} --force")
        put(evaluation, where, found + 1e-11)
        path.write_text(json.dumps(evaluation))
        load_run(folder)


def test_infinite_nll_is_null_and_nothing_else(folder, tmp_path):
    rewrite(folder / "evaluation.json", lambda evaluation: put(evaluation, (*TEST, "nll"), None))
    assert "nll is None" in refusal(folder, tmp_path / "out")


def test_an_evaluation_of_another_config_is_refused(folder, tmp_path):
    rewrite(folder / "config.json", lambda config: config["method"].update(mixup_alpha=0.5))
    message = refusal(folder, tmp_path / "out")
    assert f"{folder / 'config.json'}: method.mixup_alpha is 0.5, but 0.0 in evaluation.json" in message
    assert message.endswith(f"evaluate again: python -m mixup_jax.evaluate --workdir={folder} --force")
    rewrite(folder / "config.json", lambda config: config["method"].pop("mixup_alpha"))
    assert "method.mixup_alpha is None" in refusal(folder, tmp_path / "out")


def test_settings_that_change_no_result_may_differ_and_the_file_may_be_missing(folder):
    rewrite(folder / "config.json", lambda config: config.update(notes="x", log_every_steps=7, tensorboard=True))
    assert load_run(folder).notes.startswith("Chosen")
    (folder / "config.json").unlink()
    assert load_run(folder).config.epochs == 30


def test_a_diverged_run_has_a_page(folder, tmp_path):
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": NaN}\n{"epoch": 1' + "0" * 400 + "}\n")
    build_report([folder], tmp_path / "out")


@pytest.mark.parametrize("name", ["index.html", "results.json", "table.md", "table.tex", "table.csv"])
def test_a_folder_in_the_place_of_a_file_is_found_before_anything_is_written(folder, tmp_path, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=rf"{name} is a folder"):
        main([str(folder), f"--output={tmp_path / 'out'}"])
    assert [path.name for path in (tmp_path / "out").rglob("*")] == [name]


def test_so_are_a_folder_in_the_place_of_a_figure_and_a_file_in_that_of_the_figures(folder, tmp_path):
    (tmp_path / "out" / "figures" / "risk-coverage.png").mkdir(parents=True)
    with pytest.raises(InputError, match=r"risk-coverage.png is a folder"):
        main([str(folder), f"--output={tmp_path / 'out'}"])
    assert not list((tmp_path / "out").rglob("*.svg"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "figures").write_text("")
    with pytest.raises(InputError, match="figures is a file"):
        main([str(folder), f"--output={tmp_path / 'other'}"])


def test_an_output_that_cannot_be_made_is_one_line(folder, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for output in ("/proc/report", tmp_path / ("x" * 300), tmp_path / "loop"):
        with pytest.raises(InputError, match=r"output .* (cannot be written|is a file)") as caught:
            main([str(folder), f"--output={output}"])
        assert "\n" not in str(caught.value)


def test_a_folder_whose_name_is_no_text_has_a_page(folder, tmp_path):
    odd = folder.rename(tmp_path / "erm-\udcff")
    reconfigure(odd, lambda config: config.update(experiment=""))
    assert "erm-\\udcff" in build_report([odd], tmp_path / "out").read_text()


def test_no_file_of_the_report_shows_what_cannot_be_seen(tmp_path):
    hidden = "erm\u202egpj\u2066\x9b31m\u200b"
    folder = make_run(tmp_path / f"run{hidden}", n=40, experiment=hidden, notes=f"a\n{hidden}", ood=("mnist",))
    output = tmp_path / "report"
    assert main([str(folder), f"--output={output}"]) == 0
    texts = {
        path: path.read_text() for path in output.rglob("*") if path.suffix in (".html", ".md", ".tex", ".csv", ".svg")
    }
    assert len(texts) > 5
    for path, text in texts.items():
        assert str(path.name).isprintable()
        assert not [mark for mark in text if not mark.isprintable() and mark not in "\n\t\r"], path.name
    assert "\\u202e" in texts[output / "index.html"]
