import csv
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

from mixup_jax.command import EXIT_BAD_INPUT, run_command
from mixup_jax.errors import InputError
from mixup_jax.evaluate import main
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
        (",label,0,1\n0,1,0.1,0.9\n", "column '' is neither"),
        ("id,label,0,1\n0,1,0.1,0.9\n", "column 'id' is neither"),
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


class FakeTensor:
    """As much of torch.Tensor as the reader uses."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def detach(self):
        return self

    def numpy(self):
        return self.array

    def numel(self):
        return self.array.size

    def element_size(self):
        return self.array.itemsize

    def is_floating_point(self):
        return self.array.dtype.kind == "f"

    def float(self):
        return FakeTensor(self.array.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"logits": FakeTensor(LOGITS), "labels": FakeTensor(LABELS)}, None),
        ({"logits": FakeTensor(LOGITS)}, "lacks labels; expected {'logits': .., 'labels': ..}"),
        ([1], "lacks a tensor logits"),
        ({"logits": FakeTensor(np.broadcast_to(np.float32(0), (10**9, 3))), "labels": FakeTensor([0])}, "in memory"),
    ],
)
def test_torch_files_are_read_by_torch_without_unpickling(folder, monkeypatch, content, message):
    def load(path, *, map_location, weights_only):
        assert (map_location, weights_only) == ("cpu", True)
        return content

    monkeypatch.setitem(
        sys.modules, "torch", types.SimpleNamespace(Tensor=FakeTensor, load=load, __version__="2.14.1+cpu")
    )
    with zipfile.ZipFile("p.pt", "w") as archive:
        archive.writestr("p/data.pkl", b"")
    if message is None:
        np.testing.assert_array_equal(load_predictions(Path("p.pt")).logits, LOGITS)
        return
    with pytest.raises(InputError, match=message):
        load_predictions(Path("p.pt"))


def test_torch_missing_is_said(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    Path("p.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"p\.pt needs torch"):
        load_predictions(Path("p.pt"))


def test_a_real_torch_file(folder):
    torch = pytest.importorskip("torch")
    logits, labels = torch.tensor(LOGITS), torch.tensor(LABELS)
    narrow = logits.bfloat16().float().numpy()
    for tensor, expected in (
        (logits, LOGITS),
        (logits.requires_grad_(), LOGITS),
        (logits.detach().T.contiguous().T, LOGITS),
        (logits.detach().bfloat16(), narrow),
    ):
        torch.save({"logits": tensor, "labels": labels}, "p.pt")
        read = load_predictions(Path("p.pt"))
        np.testing.assert_array_equal(read.logits, expected)
        np.testing.assert_array_equal(read.labels, LABELS)
    torch.save(torch.nn.Linear(2, 2), "p.pt")
    with pytest.raises(InputError, match="holds more than tensors"):
        load_predictions(Path("p.pt"))


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
