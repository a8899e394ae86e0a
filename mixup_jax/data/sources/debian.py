"""Fashion-MNIST's original files from Debian's package, for machines that can reach only a package mirror.

Debian removes name and time from gzip headers, which changes the files' checksums but not their content.
Restoring the headers gives the original files byte for byte.
"""

import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from mixup_jax.data.cache import manual_folder
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.data.sources import tfds
from mixup_jax.data.sources.published import Say, Source, Splits, UnavailableError, have_originals
from mixup_jax.runs.files import write_atomically

PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = Path("usr/share/datasets/fashion-mnist")

# The Unix times in the original gzip headers, by the first part of the file name.
ORIGINAL_TIMES = {"train": 1504176606, "t10k": 1504176627}

_GZIP_MAGIC = b"\x1f\x8b\x08"
_FLAG_NAME = 0x08
_COMMAND_SECONDS = 600


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
