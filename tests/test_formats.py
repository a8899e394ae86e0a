import csv
import gzip
import json
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.command import EXIT_BAD_INPUT, run_command
from mixup_jax.errors import InputError
from mixup_jax.evaluate import main
from mixup_jax.evaluation.arrays import evaluate
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.runs.formats import load_predictions
from mixup_jax.runs.records import Predictions, load_record, logits_of_probabilities, save_predictions

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(30, 4)).astype(np.float32) * 3
LABELS = np.arange(30) % 5 - 1


def write_csv(path, numbers=LOGITS, labels=LABELS, names=None):
    names = ["label", *(f"logit_{k}" for k in range(numbers.shape[1]))] if names is None else names
    with path.open("w", newline="") as file:
        rows = ([label, *map(repr, map(float, row))] for label, row in zip(labels, numbers, strict=True))
        csv.writer(file).writerows([names, *rows])


def write_parquet(path, numbers=LOGITS, labels=LABELS):
    columns = {f"{k}": numbers[:, k] for k in reversed(range(numbers.shape[1]))}
    parquet.write_table(arrow.table({**columns, "label": labels}), path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_format_holds_the_same_record(folder):
    save_predictions("p.npz", Predictions(LOGITS, LABELS))
    np.save("p.npy", LOGITS)
    np.save("labels.npy", LABELS)
    write_csv(Path("p.csv"))
    write_parquet(Path("p.parquet"))
    for name in ("p.npz", "p.npy", "p.csv", "p.parquet"):
        record = load_predictions(Path(name), labels=Path("labels.npy") if name == "p.npy" else None)
        np.testing.assert_array_equal(record.logits, LOGITS)
        np.testing.assert_array_equal(record.labels, LABELS)
        assert evaluate_records(record) == evaluate_records(Predictions(LOGITS, LABELS))
    assert (load_predictions(Path("p.npy")).labels == -1).all()


def test_out_of_distribution_examples_need_no_labels(folder):
    np.savez("p.npz", logits=LOGITS)
    with Path("p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[f"logit_{k}" for k in range(4)], *(map(repr, map(float, row)) for row in LOGITS)])
    parquet.write_table(arrow.table({f"{k}": LOGITS[:, k] for k in range(4)}), "p.parquet")
    for name in ("p.npz", "p.csv", "p.parquet"):
        record = load_predictions(Path(name), labelled=False)
        np.testing.assert_array_equal(record.logits, LOGITS)
        assert (record.labels == -1).all()
        with pytest.raises(InputError, match=rf"{name} lacks labels"):
            load_predictions(Path(name))
    save_predictions("test.npz", Predictions(LOGITS, np.arange(30) % 4))
    assert run_command(main, ["--predictions=test.npz", "--ood=p.npz"]) == 0
    assert run_command(main, ["--predictions=p.npz"]) == EXIT_BAD_INPUT


def test_probabilities_are_logits_of_the_same_predictions(folder):
    probabilities = scipy.special.softmax(LOGITS.astype(np.float64), axis=1)
    write_csv(Path("p.csv"), probabilities)
    write_parquet(Path("p.parquet"), probabilities)
    np.savez("p.npz", logits=probabilities, labels=LABELS)
    np.save("p.npy", probabilities)
    for name in ("p.csv", "p.parquet", "p.npz", "p.npy"):
        record = load_predictions(Path(name), probabilities=True)
        np.testing.assert_allclose(scipy.special.softmax(record.logits, axis=1), probabilities, rtol=1e-12)
    assert logits_of_probabilities(np.array([[0.0, 1.0]])).tolist() == [[-np.inf, 0.0]]


@pytest.mark.parametrize(
    ("row", "message"),
    [([0.5, 0.4], "row 1 of probabilities sums to 0.9"), ([1.5, -0.5], "row 1 .* outside"), ([np.nan, 1], "outside")],
)
def test_what_is_no_probability_is_refused(row, message):
    with pytest.raises(InputError, match=message):
        logits_of_probabilities(np.array([[0.5, 0.5], row]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column '0'"),
        ("0,1\n0.1,0.9\n", "lacks labels; expected a column 'label'"),
        ("label,label,0,1\n1,1,0.1,0.9\n", "2 columns named 'label'"),
        ("background,label,0,1\n0,1,0.1,0.9\n", "column 'background' is neither"),
        (",label,0,1\n0,1,0.1,0.9,1\n", "a row has 5 columns, the first line 4"),
        ("label,0,1\n" + "\n" * 2000 + "1,0.1,0.9\n", "more than 1000 blank lines"),
        ("label,0,2\n1,0.1,0.9\n", "lacks the column '1'"),
        ("label,a_0,b_1\n1,0.1,0.9\n", "lacks the column 'a_1'"),
        ("label,0\n0,0.1\n", "lacks the column '1'"),
        ("label,0,1\n", r"logits have shape \[0, 2\]"),
        ("label,0,1\n1,0.1\n", "has 3 names but 2 columns"),
        ("label,0,1\n1,0.1,0.9\n1,0.1\n", "cannot be read"),
        ("label,0,1\n1,0.1,x\n", "cannot be read .*could not convert string 'x'"),
        ("label,0,1\n1.5,0.1,0.9\n", "label 1.5 of example 0 is not a whole number"),
        ("label,0,1\n7,0.1,0.9\n", "label 7 of example 0 is outside"),
        ("label,0,1\n1,nan,0.9\n", "NaN"),
    ],
)
def test_malformed_csv_is_refused_in_one_line_that_names_the_file(folder, text, message):
    Path("p.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_predictions(Path("p.csv"))
    assert "p.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_in_any_order_and_a_byte_order_mark(folder):
    Path("p.csv").write_bytes(b'\xef\xbb\xbf"p 1",label,p 0\r\n0.9,1,0.1\r\n')
    assert load_predictions(Path("p.csv")).logits.tolist() == [[0.1, 0.9]]


def test_parquet_of_text_is_refused(folder):
    parquet.write_table(arrow.table({"label": [0], "0": ["a"], "1": ["b"]}), "p.parquet")
    with pytest.raises(InputError, match="column '0' is string"):
        load_predictions(Path("p.parquet"))


def test_a_file_that_would_unfold_beyond_the_limit_is_refused_before_it_does(folder):
    np.savez_compressed("p.npz", logits=np.zeros((100_000, 50), np.float32), labels=np.zeros(100_000, int))
    assert Path("p.npz").stat().st_size < 100_000
    with pytest.raises(InputError, match=r"would take 0.0194 GiB in memory; expected at most 0.00931 GiB .*--max_gib"):
        load_record("p.npz", limit=10_000_000)
    assert len(load_record("p.npz", limit=21_000_000).labels) == 100_000
    write_csv(Path("p.csv"))
    write_parquet(Path("p.parquet"))
    for name in ("p.csv", "p.parquet"):
        with pytest.raises(InputError, match="in memory"):
            load_predictions(Path(name), limit=100)


def test_a_header_that_promises_more_than_there_is_allocates_nothing(folder):
    np.save("honest.npy", LOGITS)
    lying = Path("honest.npy").read_bytes().replace(b"(30, 4), }             ", b"(3000000000000, 4), }  ", 1)
    Path("p.npy").write_bytes(lying)
    with zipfile.ZipFile("p.npz", "w") as archive:
        archive.writestr("logits.npy", lying)
        archive.write("honest.npy", "labels.npy")
    for name in ("p.npy", "p.npz"):
        with pytest.raises(InputError, match=r"cannot be read \(an array of shape \[3000000000000, 4\]"):
            load_predictions(Path(name))


def file_of(folder, kind):
    path = folder / f"p.{kind}"
    {
        "npz": lambda: np.savez_compressed(path, logits=LOGITS, labels=LABELS),
        "npy": lambda: np.save(path, LOGITS),
        "csv": lambda: write_csv(path),
        "parquet": lambda: write_parquet(path),
    }[kind]()
    return path


@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "parquet"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_random_damage_is_an_input_error_or_a_valid_record(tmp_path_factory, kind, data):
    path = file_of(tmp_path_factory.mktemp("fuzz"), kind)
    whole = path.read_bytes()
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(0, 6))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    content = data.draw(st.binary(max_size=200)) if data.draw(st.integers(0, 4)) == 0 else bytes(damaged)
    path.write_bytes(content)
    message = path.name
    try:
        assert isinstance(load_predictions(path), Predictions)
    except InputError as error:
        message = str(error)
    assert path.name in message
    assert "\n" not in message


def test_unknown_suffixes_and_missing_files(folder):
    with pytest.raises(InputError, match=r"unknown format of predictions '.npzz' \(did you mean '.npz'\?\)"):
        load_predictions(Path("p.npzz"))
    for name in ("p.npz", "p.npy", "p.csv", "p.parquet", "p.pt"):
        with pytest.raises(InputError, match=rf"{name} does not exist"):
            load_predictions(Path(name))
    write_csv(Path("p.csv"))
    with pytest.raises(InputError, match=r"labels file l\.npy given for p\.csv"):
        load_predictions(Path("p.csv"), labels=Path("l.npy"))


def test_a_header_with_an_open_quote_is_named_in_one_line(folder):
    Path("p.csv").write_text('"label,0,1\n0,1.0,2.0\n1,2.0,1.0\n')
    with pytest.raises(InputError) as caught:
        load_predictions(Path("p.csv"))
    assert "is neither 'label' nor a class" in str(caught.value)
    assert "\n" not in str(caught.value)


TORCH_FILES = Path(__file__).parent / "torch_files"
"""Written by torch 2.13: `tests/torch_files/write.py`."""
OF_TORCH = np.array([[-1.1258, -1.1524, -0.2506, -0.4339], [0.8487, 0.6920, -0.3160, -2.1152]])


@pytest.mark.parametrize(
    ("name", "said", "digits"),
    [("dict.pt", "", 4), ("tuple.pt", "'0' is taken for the logits", 2), ("strided.pth", "'preds' is taken", 4)],
)
def test_real_torch_files_are_read_without_torch(name, said, digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    lines = []
    record = load_predictions(TORCH_FILES / name, say=lines.append)
    np.testing.assert_allclose(record.logits[:2], OF_TORCH, atol=0.6 * 10.0**-digits)
    assert record.labels.tolist() == [0, 1, 2, 3, -1, 2]
    assert said in "".join(lines)


def test_logits_and_labels_of_torch_in_two_files():
    record = load_predictions(TORCH_FILES / "tensor.pt", labels=TORCH_FILES / "labels.pt")
    np.testing.assert_allclose(record.logits[:2], OF_TORCH, atol=2e-3)
    assert record.labels.tolist() == [0, 1, 2, 3, -1, 2]


@pytest.mark.parametrize(
    ("name", "message"), [("module.pt", "holds more than tensors"), ("legacy.pt", "format of before 1.6, a pickle")]
)
def test_torch_files_of_more_than_tensors_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        load_predictions(TORCH_FILES / name)


def torch_file(path, pickled, numbers=b"\0" * 96):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p/data.pkl", pickled)
        archive.writestr("p/data/0", numbers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"ctorch._utils\n_rebuild_tensor_v2\n", b"cos\nsystem\n"), "holds more than tensors: os.system"),
        ((b"K\x06K\x04\x86", b"J\xff\xff\xff\x7fK\x04\x86"), "in memory"),
        ((b"K\x04K\x01\x86", b"K\xffK\x01\x86"), "more elements than the file"),
    ],
)
def test_what_a_torch_file_claims_is_neither_run_nor_allocated(folder, change, message):
    with zipfile.ZipFile(TORCH_FILES / "dict.pt") as archive:
        pickled = archive.read("dict/data.pkl")
        numbers = archive.read("dict/data/0")
    assert change[0] in pickled
    torch_file("p.pt", pickled.replace(*change), numbers)
    with pytest.raises(InputError, match=message):
        load_predictions("p.pt")


def test_keys_are_chosen_by_the_user_or_tried_and_said(folder):
    np.savez("p.npz", probs=LOGITS, outputs=-LOGITS, y=LABELS, other=LABELS[::-1])
    said = []
    record = load_predictions("p.npz", say=said.append)
    np.testing.assert_array_equal(record.logits, -LOGITS)
    assert said == ["p.npz: 'outputs' is taken for the logits; 'y' is taken for the labels"]
    said.clear()
    record = load_predictions("p.npz", logits_key="probs", labels_key="other", say=said.append)
    np.testing.assert_array_equal(record.logits, LOGITS)
    np.testing.assert_array_equal(record.labels, LABELS[::-1])
    assert said == []
    with pytest.raises(InputError, match="expected 'z', as --logits_key says"):
        load_predictions("p.npz", logits_key="z")
    np.savez("o.npz", probs=LOGITS)
    keys = {"logits_key": "probs", "labels_key": "y"}
    assert (load_predictions("o.npz", labelled=False, **keys).labels == -1).all()
    with pytest.raises(InputError, match="expected 'y', as --labels_key says"):
        load_predictions("o.npz", **keys)
    assert evaluate("p.npz", ood={"o": "o.npz"}, **keys)["ood"]["o"]["n_out"] == 30
    Path("p.csv").write_text("file;p0;p1;truth;note\na;0.5;1.5;1;x\n")
    record = load_predictions("p.csv", logits_key="p", labels_key="truth", say=said.append)
    assert (record.logits.tolist(), record.labels.tolist()) == ([[0.5, 1.5]], [1])
    assert said == ["p.csv: column 'file' is left out; column 'note' is left out"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", ",label,0,1\n0,1,0.25,0.5\n1,0,1,2\n"),
        ("p.csv", "id;label;0;1\nx y;1;0.25;0.5\nz;0;1;2\n"),
        ("p.tsv", "Unnamed: 0\tlabel\t0\t1\n0\t1\t0.25\t0.5\n1\t0\t1\t2\n"),
        ("p.csv.gz", "label,0,1\n1,0.25,0.5\n0,1,2\n"),
    ],
)
def test_tables_with_other_separators_compressed_and_with_an_index(folder, name, text):
    Path(name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    record = load_predictions(name)
    assert record.logits.tolist() == [[0.25, 0.5], [1.0, 2.0]]
    assert record.labels.tolist() == [1, 0]


def test_a_small_file_that_unfolds_without_end_is_refused(folder):
    Path("p.csv.gz").write_bytes(gzip.compress(b"label,0,1\n" + b"0" * (1 << 25)))
    with pytest.raises(InputError, match="a line has more than"):
        load_predictions("p.csv.gz")


def save_arrow(path, table, **options):
    with arrow.OSFile(str(path), "wb") as file, arrow.ipc.new_stream(file, table.schema, **options) as stream:
        stream.write_table(table, max_chunksize=7)


def test_columns_of_lists_and_data_sets_saved_to_disk(folder):
    table = arrow.table({"logits": list(LOGITS), "label": LABELS, "text": ["x"] * 30})
    parquet.write_table(table, "p.parquet", row_group_size=11)
    fixed = arrow.FixedSizeListArray.from_arrays(arrow.array(LOGITS.ravel()), 4)
    parquet.write_table(arrow.table({"label": LABELS, "preds": fixed}), "fixed.parquet")
    Path("saved").mkdir()
    for part in range(2):
        save_arrow(f"saved/data-{part}.arrow", table.slice(15 * part, 15))
    files = [{"filename": f"data-{part}.arrow"} for part in range(2)]
    Path("saved/state.json").write_text(json.dumps({"_data_files": files, "_indices_files": None}))
    for name in ("p.parquet", "fixed.parquet", "saved"):
        record = load_predictions(name)
        np.testing.assert_array_equal(record.logits, LOGITS)
        assert record.logits.dtype == np.float32
        np.testing.assert_array_equal(record.labels, LABELS)
    save_arrow("p.arrow", table, options=arrow.ipc.IpcWriteOptions(compression="zstd"))
    with pytest.raises(InputError, match="it is compressed"):
        load_predictions("p.arrow")
    parquet.write_table(arrow.table({"logits": [[0.1, 1.0], [1.0]], "label": [0, 1]}), "p.parquet")
    with pytest.raises(InputError, match="lists of 2 lengths"):
        load_predictions("p.parquet")
    Path("saved/state.json").write_text(json.dumps({"_data_files": [{"filename": "../p.arrow"}]}))
    with pytest.raises(InputError, match="names no data files"):
        load_predictions("saved")


def test_bfloat16_is_read_as_what_it_is(folder):
    jnp = pytest.importorskip("jax.numpy")
    narrow = jnp.asarray(LOGITS, jnp.bfloat16)
    np.savez("p.npz", logits=narrow, labels=LABELS)
    np.save("p.npy", narrow)
    for name in ("p.npz", "p.npy"):
        np.testing.assert_array_equal(load_predictions(name).logits, np.asarray(narrow, np.float32))


class BFloat16OnAnAccelerator:
    """As much of such a tensor of torch as is used; numpy cannot take it as it is."""

    dtype = "torch.bfloat16"

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Can't call numpy() on Tensor that requires grad")

    def detach(self):
        return types.SimpleNamespace(cpu=lambda: self, dtype=self.dtype)

    def float(self):
        return self.array


def test_tensors_of_torch_are_taken_from_where_they_are():
    labels = np.abs(LABELS)
    assert evaluate(BFloat16OnAnAccelerator(LOGITS), labels) == evaluate(LOGITS, labels)


PIXELS = RNG.normal(size=(6, 3, 4, 5))
CLASSES = RNG.integers(0, 3, (6, 4, 5))


def test_each_position_of_an_image_is_an_example(folder):
    labels = CLASSES.copy()
    labels[0, :2] = labels[3] = 255
    np.savez("p.npz", logits=PIXELS, labels=labels)
    record = load_predictions("p.npz", flatten=True, ignore_label=255)
    image, row, column = np.nonzero(labels != 255)
    np.testing.assert_array_equal(record.logits, PIXELS[image, :, row, column])
    np.testing.assert_array_equal(record.labels, labels[image, row, column])
    assert record.meta["rows_by_image"] == [10, 20, 20, 0, 20, 20]
    np.savez("last.npz", logits=np.moveaxis(PIXELS, 1, -1), labels=labels)
    np.testing.assert_array_equal(load_predictions("last.npz", flatten=True, ignore_label=255).logits, record.logits)
    with pytest.raises(InputError, match="with --flatten"):
        load_predictions("p.npz")


def test_intervals_of_pixels_resample_images():
    # All pixels of an image agree, so the interval must be as wide as that of one pixel an image.
    confidence = np.repeat(RNG.uniform(0.5, 1, 40), 50)
    correct = np.repeat(RNG.uniform(size=40) < 0.8, 50)
    labels = np.where(correct, 0, 1)
    logits = np.stack([np.log(confidence), np.log1p(-confidence)], axis=1)
    rows = {"rows_by_image": [50] * 40}
    entry = evaluate_records(Predictions(logits, labels, rows))["results"]["test"]
    alone = evaluate_records(Predictions(logits[::50], labels[::50], {"rows_by_image": [1] * 40}))["results"]["test"]
    plain = evaluate_records(Predictions(logits[::50], labels[::50]))["results"]["test"]
    assert entry["images"] == {"n": 40, "fewest": 50, "mean": 50.0, "most": 50}
    for key, interval in entry["intervals"].items():
        np.testing.assert_allclose(interval, alone["intervals"][key], atol=1e-9)
        if key in plain["intervals"]:  # of other resamples
            np.testing.assert_allclose(interval, plain["intervals"][key], atol=0.04)
    with pytest.raises(InputError, match="does not add up to 2000"):
        evaluate_records(Predictions(logits, labels, {"rows_by_image": [10**9]}))


def test_confidences_alone_are_evaluated_as_those_of_logits(folder, capsys):
    labels, foreign = np.abs(LABELS), LOGITS[::-1] * 0.5
    np.savez("p.npz", logits=LOGITS, labels=labels)
    np.savez("o.npz", logits=foreign)
    confidence, correct = metrics.confidence_and_correct(LOGITS, labels)
    np.savez("scores.npz", confidence=confidence, correct=correct)
    np.save("o.npy", scipy.special.softmax(foreign.astype(float), axis=1).max(axis=1))
    assert main(["--predictions=p.npz", "--ood=o.npz", "--output=logits.json"]) == 0
    assert main(["--scores=scores.npz", "--ood=o.npy", "--output=scores.json", "--figure=h.png"]) == 0
    one, other = (json.loads(Path(f"{name}.json").read_text()) for name in ("logits", "scores"))
    for key in ("accuracy", "ece_15", "oe_15", "mean_confidence"):
        assert other["results"]["scores"][key] == pytest.approx(one["results"]["p"][key], abs=1e-7)
    for key in ("auroc", "aupr_in", "mean_confidence"):
        assert other["ood"]["o"][key] == pytest.approx(one["ood"]["o"][key], abs=1e-7)
    assert Path("h.png").read_bytes().startswith(b"\x89PNG")
    assert run_command(main, ["--scores=o.npy"]) == EXIT_BAD_INPUT
    np.save("far.npy", np.array([0.5, 1.5]))
    assert run_command(main, ["--scores=scores.npz", "--ood=far.npy"]) == EXIT_BAD_INPUT
    assert "confidence 1.5 of example 1 is not a probability" in capsys.readouterr().err


def test_the_command_reads_all_of_them_and_writes_four_formats(folder, capsys):
    labels = np.abs(LABELS)
    np.save("logits.npy", LOGITS)
    np.save("labels.npy", labels)
    write_csv(Path("val.csv"), LOGITS[::-1] * 0.9, labels[::-1])
    write_parquet(Path("noise.parquet"), LOGITS * 0.3, np.full(30, -1))
    arguments = ["--predictions=logits.npy", "--labels=labels.npy", "--validation=val.csv", "--ood=noise.parquet"]
    outputs = [f"--output=e{suffix}" for suffix in (".json", ".md", ".tex", ".csv")]
    assert main([*arguments, *outputs, "--posthoc=isotonic,vector_scaling"]) == 0
    printed = capsys.readouterr().out
    assert "isotonic" in printed
    assert "vector scaling" in printed
    for suffix in ("json", "md", "tex", "csv"):
        assert "noise" in Path(f"e.{suffix}").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=e.txt"], "unknown format of results '.txt'"),
        (["--posthoc=isotonic"], "--posthoc given without --validation"),
        (["--validation=v.npz", "--posthoc=platt"], "unknown post-hoc method 'platt'"),
        (["--validation_labels=v.npy"], "--validation_labels given without --validation"),
        (["--max_gib=-1"], "--max_gib=-1.0 is not a size"),
        (["--max_gib=1e-9"], "would take"),
        (["--validation=a.npz,p.npz"], "is the test record itself"),
    ],
)
def test_contradicting_flags(folder, capsys, arguments, message):
    np.savez("p.npz", logits=LOGITS, labels=np.abs(LABELS))
    assert run_command(main, ["--predictions=p.npz", *arguments]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_logits_of_pixels_without_labels_have_their_classes_where_the_test_record_has_as_many(folder):
    np.savez("t.npz", logits=np.moveaxis(PIXELS, 1, -1), labels=CLASSES)
    foreign = np.moveaxis(RNG.normal(size=(6, 3, 4, 5)), 1, -1)
    same = {"x": (foreign, np.full(CLASSES.shape, -1))}
    given = evaluate("t.npz", ood={"x": (foreign)}, flatten=True)
    assert given == evaluate("t.npz", ood=same, flatten=True)
    with pytest.raises(InputError, match="two sizes are the number of classes"):
        evaluate("t.npz", ood={"x": RNG.normal(size=(6, 3, 3))}, flatten=True)


def test_images_without_labels_are_not_resampled():
    labels = np.full((40, 10, 10), 255)
    labels[:2] = 0
    logits = np.zeros((40, 10, 10, 3))
    logits[..., 0] = 4.0
    entry = evaluate(np.moveaxis(logits, -1, 1), labels, flatten=True, ignore_label=255)["results"]["test"]
    assert entry["intervals"]["accuracy"] == list(metrics.resampling.wilson_interval(2, 2))
    low, high = entry["intervals"]["mean_confidence"]
    assert low == pytest.approx(entry["mean_confidence"])
    assert high <= 1.0
    assert "ece_15" in entry["intervals"]
    with pytest.raises(InputError, match="needs independent examples"):
        evaluate(np.moveaxis(logits, -1, 1), labels, flatten=True, ignore_label=255, extra=["calibration_test"])


def test_what_unfolds_beyond_the_limit_is_refused_before_it_does(folder):
    halves = np.zeros((1 << 12, 256), np.float16)
    np.save("h.npy", halves)
    equal = arrow.array([[1.0] * 50_000] * 20, arrow.list_(arrow.float32()))
    parquet.write_table(arrow.table({"logits": equal, "label": [0] * 20}), "e.parquet")
    for path in ("h.npy", "e.parquet"):
        with pytest.raises(InputError, match=r"expected at most|needs"):
            load_predictions(path, labelled=False, limit=1 << 21)
    table = arrow.table({"logits": [[1.0, 2.0]], "label": [0], "id": arrow.array(["a"]).dictionary_encode()})
    with arrow.OSFile("d.arrow", "wb") as sink, arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match="a column of categories"):
        load_predictions("d.arrow")


def test_an_empty_batch_of_an_arrow_stream_has_no_rows(folder):
    batch = arrow.record_batch({"logits": [[1.0, 2.0], [0.5, 0.0]], "label": [0, 1]})
    with arrow.OSFile("b.arrow", "wb") as sink, arrow.ipc.new_stream(sink, batch.schema) as writer:
        for part in (batch, batch.slice(0, 0), batch):
            writer.write_batch(part)
    np.testing.assert_array_equal(load_predictions("b.arrow").labels, [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (b"ctorch\nSize\n(]tR", "a size is no tuple"),
        (b"ccollections\nOrderedDict\n(]tR", "an OrderedDict that is made of a list"),
    ],
)
def test_copies_of_lists_in_a_torch_file_are_refused(folder, call, message):
    torch_file("p.pt", b"\x80\x02}X\x06\x00\x00\x00logits" + call + b"s.")
    with pytest.raises(InputError, match=message):
        load_predictions("p.pt")


def test_groups_of_marks_that_are_no_characters_are_refused():
    marks = np.array([0x110000, 65], np.uint32).view("<U1")
    with pytest.raises(InputError, match="groups holds the code point 0x110000"):
        Predictions(np.eye(2), [0, 1], groups=marks)
