"""Everything that can go wrong outside the code, and what the user sees: the source of docs/errors.md.

    python tests/error_cases.py --write

runs every case and writes the document; tests/test_errors.py runs them too and compares.  A case is a command or a
call, in a folder of valid files that something has happened to.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
from report_runs import STEP, make_run, reconfigure, rewrite

from mixup_jax.command import EXIT_ENVIRONMENT, run_command
from mixup_jax.data.cache import arrays_folder, write_cache
from mixup_jax.data.sets import ExampleSet
from mixup_jax.errors import InputError
from mixup_jax.runs.records import Predictions, save_predictions

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "errors.md"
AHEAD = "python -m mixup_jax.compile_ahead --config=configs/quickstart.py"
TOPOLOGY = "mixup_jax.ahead.topology"
REFUSED = 'INVALID_ARGUMENT: Topology layout "v5e:3x3" is not divisible by chips_per_host_bounds "2x2x1"'
Change = Callable[[], object]
Patches = Callable[[], Sequence[Any]]

TRAIN = "python -m mixup_jax.main --config=configs/quickstart.py:mixup --workdir=new --data_dir=data"
EVALUATE = "python -m mixup_jax.evaluate --predictions=test.npz"
REPORT = "python -m mixup_jax.report run --output=report"
GRID = "--grid=configs/grids/mr.py --output=runs"
DATA = "python -m mixup_jax.data mnist --data_dir=elsewhere"
PETS = "python -m mixup_jax.data folder:pets --data_dir=elsewhere"
PREDICT = "python -m mixup_jax.predict --workdir=run"
SCANS = "python -m mixup_jax.data arrays:scans.npz --data_dir=elsewhere"


def nothing() -> None:
    """The change of a case in which the files are right."""


@dataclass(frozen=True)
class Case:
    """Something that goes wrong.

    Attributes:
      title: what it is.
      typed: the command, or the call, as a user types it.
      change: happens to the folder before.
      patches: what the machine is made to do meanwhile, where it cannot be brought to it honestly.
    """

    title: str
    typed: str
    change: Change = nothing
    patches: Patches = tuple


def write_files(folder: Path) -> None:
    """Writes the valid files that cases start from."""
    rng = np.random.default_rng(0)
    for seed, (name, labelled) in enumerate({"test": True, "validation": True, "noise": False}.items()):
        logits = np.random.default_rng(seed).normal(size=(60, 4)).astype(np.float32)
        labels = rng.integers(0, 4, 60) if labelled else np.full(60, -1)
        save_predictions(folder / f"{name}.npz", Predictions(logits, labels))
    np.save(folder / "logits.npy", np.zeros((60, 4), np.float32))
    images = rng.integers(0, 256, (4500, 28, 28, 1), dtype=np.uint8)
    train, test = (ExampleSet(images[:n], np.arange(n, dtype=np.int32) % 10, "made up") for n in (4500, 50))
    write_cache(arrays_folder(folder / "data", "fashion_mnist"), {"train": train, "test": test})
    write_cache(arrays_folder(folder / "data", "mnist"), {"test": test})
    make_run(folder / "run", n=40, ood=("mnist",))
    (folder / "empty").mkdir()
    shutil.copytree(ROOT / "configs", folder / "configs", ignore=shutil.ignore_patterns("__pycache__"))


# What happens to the folder.


def text(name: str, content: str) -> Change:
    """Writes a file."""
    return functools.partial(_write_text, name, content)


def leaked() -> None:
    """Writes a validation record of which half the rows are test rows."""
    test, validation = (np.load(f"{name}.npz") for name in ("test", "validation"))
    parts = {key: np.concatenate([test[key][:30], validation[key][:30]]) for key in ("logits", "labels")}
    np.savez("part.npz", **parts)


def forgetful_network() -> None:
    """Writes a module with a network whose call has no argument `train`, where Python finds it."""
    call = "def __call__(self, x, *, mix=None, dropout_keys=None): return x"
    Path("nets.py").write_text(f"import flax.linen as nn\nclass Net(nn.Module):\n    classes: int\n    {call}\n")


def searched_here() -> Sequence[Any]:
    """Has Python look for modules in the folder of the command, as `python -m` does."""
    return [mock.patch.object(sys, "path", [str(Path.cwd()), *sys.path])]


def likely(change: Callable[[Any], Any]) -> Change:
    """Replaces the logits of test.npz by what `change` makes of their probabilities."""

    def replace() -> None:
        with np.load("test.npz") as record:
            powers, labels = np.exp(record["logits"].astype(float)), record["labels"]
        np.savez("test.npz", logits=change(powers / powers.sum(axis=1, keepdims=True)), labels=labels)

    return replace


def _write_text(name: str, content: str) -> None:
    Path(name).write_text(content)


def arrays(**entries: Any) -> Change:
    """Replaces test.npz."""
    return functools.partial(np.savez, "test.npz", **entries)


def evaluation(change: Callable[[dict[str, Any]], object]) -> Change:
    """Changes the run's evaluation.json."""
    return functools.partial(rewrite, Path("run/evaluation.json"), change)


def truncated(name: str) -> Change:
    """Cuts a file in half."""
    return lambda: Path(name).write_bytes(Path(name).read_bytes()[: Path(name).stat().st_size // 2])


def copied(source: str, name: str) -> Change:
    """Copies a file."""
    return functools.partial(shutil.copy, source, name)


def removed(name: str) -> Change:
    """Removes a file."""
    return lambda: Path(name).unlink()


def pets(*folders: str) -> None:
    """Writes four small images into each folder."""
    for shade, folder in enumerate(folders):
        Path(folder).mkdir(parents=True)
        for number in range(4):
            pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) + 40 * shade + number
            Image.fromarray(pixels).save(f"{folder}/{number}.png")


def doubled_member() -> None:
    """Adds a second array of labels to test.npz."""
    with warnings.catch_warnings(), zipfile.ZipFile("test.npz", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("labels.npy", archive.read("labels.npy"))


def negative_shape() -> None:
    """Writes an .npy whose header promises -6 examples."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (-6, 4), }".ljust(117) + b"\n"
    Path("test.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(96))


def misplaced() -> None:
    """Puts a file of MNIST where other tools keep it."""
    Path("elsewhere/downloads/manual").mkdir(parents=True)
    Path("elsewhere/downloads/manual/train-images-idx3-ubyte.gz").write_bytes(b"x")


def parquet_of_text() -> None:
    """Writes a Parquet file whose classes are text."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"label": [0], "0": ["a"], "1": ["b"]}), "p.parquet")


def cut_off_log() -> None:
    """Leaves half a line at the end of the run's log."""
    log = Path("run/metrics.jsonl")
    log.write_text(log.read_text() + '{"step": 1, "tr')


def trained_with_seed_0() -> None:
    """Makes the run's config that of the quickstart."""
    from mixup_jax.config import to_dict
    from mixup_jax.config_file import load_config

    Path("run/config.json").write_text(json.dumps(to_dict(load_config("configs/quickstart.py:mixup"))))


def other_width(evaluated: dict[str, Any]) -> None:
    """Changes the network of a config."""
    evaluated["config"]["model"]["width"] = 99


def result(key: str, value: Any) -> Change:
    """Changes a number of the run's test set."""
    return evaluation(lambda document: document["results"]["fashion_mnist/test"].update({key: value}))


# What the machine does.


def raising(target: str, error: Callable[[], BaseException]) -> Patches:
    """Makes a function fail."""
    return lambda: [mock.patch(target, side_effect=error())]


def not_joined(kind: type[Exception], reason: str) -> Patches:
    """Makes jax find no other process."""
    return raising("jax.distributed.initialize", lambda: kind(reason))


def without(package: str) -> Patches:
    """Hides a package."""
    return lambda: [mock.patch.dict(sys.modules, {package: None})]


def versions(**found: str) -> Patches:
    """Makes packages be of these versions, and ask for what those of the time of writing ask for."""
    known = {"mixup_jax": "0.1.0", "jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"}
    needs = {
        "mixup_jax": ["jax<0.13,>=0.10.2", "flax<0.13,>=0.12.8", "optax<0.3,>=0.2.8"],
        "jax": ["jaxlib<=0.10.2,>=0.10.2"],
    }

    def version(name: str) -> str:
        from importlib.metadata import PackageNotFoundError

        if not (answer := (known | found).get(name)):
            raise PackageNotFoundError(name)
        return answer

    return lambda: [
        mock.patch("mixup_jax.environment.metadata.version", version),
        mock.patch("mixup_jax.environment.metadata.requires", lambda name: needs.get(name, [])),
    ]


def out_of_device_memory() -> BaseException:
    """Returns what jax raises when an accelerator has no memory left."""
    import jax

    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes.")


def killed_worker() -> RuntimeError:
    """Returns what Grain raises when one of its processes is gone."""
    return RuntimeError("Worker process was terminated unexpectedly with exit code -9. Search the logs above for ..")


def full(name: str) -> OSError:
    """Returns what a full disk raises."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


@contextlib.contextmanager
def small_files_only() -> Iterator[None]:
    """Lets this process write no file of more than a kilobyte."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def own_environment() -> list[Any]:
    """Keeps what a command tells jax by the environment from the commands after it."""
    return [mock.patch.dict(os.environ)]


def unreachable() -> list[Any]:
    """Cuts off the network and the packages of data."""
    from mixup_jax.data.sources import UnavailableError

    offline = UnavailableError("pip could not download it")
    return [
        mock.patch("mixup_jax.data.sources.tfds.can_reach", return_value=False),
        mock.patch("mixup_jax.data.sources.packages.fetch_digits", side_effect=offline),
    ]


def setting(title: str, override: str) -> Case:
    """A setting on the command line that is wrong."""
    return Case(title, f"{TRAIN} --config.{override}")


CASES: dict[str, list[Case]] = {
    "Commands": [
        Case("an unknown flag", "python -m mixup_jax.evaluate --prediction=test.npz"),
        Case("a flag without its value", "python -m mixup_jax.main --config= --workdir=new"),
        Case("a process without a coordinator", f"{TRAIN} --processes=4 --process=0"),
        Case("a coordinator without a port", f"{TRAIN} --coordinator=10.0.0.1 --processes=4 --process=0"),
        Case("no processes", f"{TRAIN} --coordinator=10.0.0.1:1234 --processes=0 --process=0"),
        Case("a process too many", f"{TRAIN} --coordinator=10.0.0.1:1234 --processes=4 --process=4"),
        Case("two ways to say who is who", f"{TRAIN} --distributed --process=1"),
        Case(
            "a method that works in one process only", "python -m mixup_jax.evaluate --workdir=run --odin --distributed"
        ),
        Case(
            "--distributed without a cluster",
            f"{TRAIN} --distributed",
            patches=not_joined(ValueError, "coordinator_address should be defined."),
        ),
        Case(
            "a coordinator's port that is in use",
            f"{TRAIN} --coordinator=10.0.0.1:1234 --processes=2 --process=0",
            patches=not_joined(RuntimeError, "UNKNOWN: Failed to start RPC server"),
        ),
        Case("a flag given twice", "python -m mixup_jax.main --config=a.py --config=b.py --workdir=new"),
        Case("a flag left out", "python -m mixup_jax.main --workdir=new"),
        Case("neither kind of evaluation", "python -m mixup_jax.evaluate"),
        Case("both kinds of evaluation", f"{EVALUATE} --workdir=run"),
        Case("a flag of the other kind", f"{EVALUATE} --checkpoint=best"),
        Case("no such checkpoint", "python -m mixup_jax.evaluate --workdir=run --checkpoint=newest"),
        Case("an empty name in a list", "python -m mixup_jax.evaluate --workdir=run --datasets=test,,mnist"),
        Case("a limit that is not a size", f"{EVALUATE} --max_gib=-1"),
        Case("an unknown post-hoc method", f"{EVALUATE} --validation=validation.npz --posthoc=platt"),
        Case("a post-hoc method without validation data", f"{EVALUATE} --posthoc=isotonic"),
        Case("features asked of a file without them", f"{EVALUATE} --ood=noise.npz --features"),
        Case("an unknown analysis", f"{EVALUATE} --extra=fairness"),
        Case("conformal sets without validation data", f"{EVALUATE} --extra=conformal"),
        Case("groups that the file does not have", f"{EVALUATE} --extra=groups"),
        Case("a near set that is not there", f"{EVALUATE} --ood=noise.npz --near=mnist"),
        Case(
            "features of many passes",
            "python -m mixup_jax.evaluate --workdir=run --mc_dropout=3 --save_as=new --features",
        ),
        Case("the test record as validation record", f"{EVALUATE} --validation=test.npz"),
        Case("an output in an unknown format", f"{EVALUATE} --output=e.txt"),
        Case("an output in the place of an input", f"{EVALUATE} --output=test.npz"),
        Case("an address for a folder", TRAIN.replace("=new", "=gs://bucket/new")),
        Case("an address for a file", EVALUATE.replace("=test", "=s3://bucket/test")),
        Case("an address among one's own data", f"{TRAIN} --config.data.name=folder:gs://bucket/pets"),
        Case(
            "an address in $TFDS_DATA_DIR",
            PETS.replace(" --data_dir=elsewhere", ""),
            patches=lambda: [mock.patch.dict(os.environ, TFDS_DATA_DIR="gs://bucket/data")],
        ),
        Case("a folder in the place of an output", f"{EVALUATE} --output=e.json", lambda: Path("e.json").mkdir()),
        Case("a pipe in the place of an output", f"{EVALUATE} --output=e.json", lambda: os.mkfifo("e.json")),
        Case("a name that no file can have", EVALUATE.replace("=test", f"={'x' * 300}")),
        Case(
            "links that point to themselves",
            EVALUATE.replace("=test", "=loop"),
            lambda: os.symlink("loop.npz", "loop.npz"),
        ),
        Case("the home of an unknown user", EVALUATE.replace("=test", "=~nobody-of-that-name/test")),
        Case("two dashes as a value", "python -m mixup_jax.report run --jobs=--"),
        Case("no data set named", "python -m mixup_jax.data"),
        Case("an unknown data set", "python -m mixup_jax.data mnits"),
    ],
    "Compiling ahead": [
        Case("a topology without its size", f"{AHEAD} --topology=v5e", patches=own_environment),
        Case("a number of devices that is not a number", f"{AHEAD} --topology=cpu:many", patches=own_environment),
        Case(
            "no compiler for TPUs",
            f"{AHEAD} --topology=v5e:4x4",
            patches=lambda: [*own_environment(), mock.patch(f"{TOPOLOGY}.importlib.util.find_spec", return_value=None)],
        ),
        Case(
            "a slice that does not exist",
            f"{AHEAD} --topology=v5e:3x3",
            patches=lambda: [
                *own_environment(),
                mock.patch(f"{TOPOLOGY}.importlib.util.find_spec", return_value=True),
                mock.patch(f"{TOPOLOGY}.topologies.get_topology_desc", side_effect=RuntimeError(REFUSED)),
            ],
        ),
        Case("pmap for another platform", f"{AHEAD} --topology=cuda:1 --config.parallel=pmap", patches=own_environment),
        Case("too few examples", f"{AHEAD} --topology=cpu:1 --config.data.train_examples=50", patches=own_environment),
        Case("an unknown step", f"{AHEAD} --topology=cpu:1 --steps=test"),
        Case("no examples", f"{AHEAD} --topology=cpu:1 --examples=0"),
        Case("an output that is not JSON", f"{AHEAD} --topology=cpu:1 --output=a.txt"),
    ],
    "Configs": [
        Case("no such config", "python -m mixup_jax.main --config=configs/quickstrat.py --workdir=new"),
        Case("no such variant", "python -m mixup_jax.main --config=configs/quickstart.py:mixpu --workdir=new"),
        Case(
            "a config that fails",
            "python -m mixup_jax.main --config=own.py --workdir=new",
            text("own.py", "import nothing_of_that_name\n"),
        ),
        Case(
            "a config that returns something else",
            "python -m mixup_jax.main --config=own.py --workdir=new",
            text("own.py", "def get_config():\n    return 3\n"),
        ),
        setting("an unknown key", "sed=1"),
        setting("a key without its value", "seed"),
        setting("a text for a number", "seed=x"),
        setting("a fraction for a whole number", "epochs=2.5"),
        setting("no epochs", "epochs=0"),
        setting("a width that fits no memory", "model.width=100000000000000000000"),
        setting("a number that is too large", "data.train_examples=99999999999"),
        setting("a negative seed", "seed=-1"),
        setting("a negative strength of mixup", "method.mixup_alpha=-1"),
        setting("a strength that is not a number", "method.mixup_alpha=nan"),
        setting("label smoothing of 1", "method.label_smoothing=1"),
        setting("groups that do not fill the batch", "method.group_size=48"),
        setting("a focal loss whose gradient is infinite", "method.focal_gamma=0.5"),
        setting("a ranking without clean examples", "method.rank_weight=0.1"),
        setting("a pair's distance, but a lambda for the group", "method.kernel_spread=0.5"),
        setting("a box of two mixtures", "method.decouple=True --config.method.cut=True"),
        setting("classes that choose a box", "method.adapt_classes=True --config.method.cut=True"),
        setting("an unknown best", "evaluation.best=loss"),
        setting("a learning rate of zero", "optimizer.learning_rate=0"),
        setting("an unknown schedule", "optimizer.schedule=linear"),
        setting("steps out of order", "optimizer.step_epochs=(5,3)"),
        setting("an unknown type", "model.dtype=float16"),
        setting("an unknown model", "model.name=resnet88"),
        setting("a network that Python does not find", "model.name=my_nets:Net"),
        setting("a network of another kind", "model.name=flax.nnx:Linear"),
        setting("a network without a field for the classes", "model.name=flax.linen:Dense"),
        Case("a network that forgets train", f"{TRAIN} --config.model.name=nets:Net", forgetful_network, searched_here),
        setting("a setting of a network that has none", "model.settings=depth=3"),
        setting("weights that are not there", "model.weights=resnet18.pth"),
        setting("weights that are none", "model.weights=test.npz"),
        setting("a frozen backbone of random weights", "optimizer.freeze=backbone"),
        setting("an average that never moves", "optimizer.ema=1"),
        setting("no batch for an update", "optimizer.accumulate=0"),
        setting("an unknown policy of augmentation", "data.policy=autoaugment"),
        setting("an unknown training set", "data.name=cifar"),
        Case("own data without a name", TRAIN.replace("quickstart", "own")),
        setting("an unknown tracker", "loggers=wandbb"),
        Case("a tracker that is not installed", f"{TRAIN} --config.loggers=wandb", patches=without("wandb")),
        setting("the training set as foreign", "evaluation.ood=fashion_mnist"),
        setting("a set named twice", "evaluation.ood=('mnist','mnist')"),
        setting("a batch larger than the data", "batch_size=5120"),
        setting("more validation examples than there are", "data.validation_examples=4500"),
        Case("a config of wrong types", "mixup_jax.config.from_dict({'seed': '3'})"),
        Case("a config that is nested wrongly", "mixup_jax.config.from_dict({'data': 3})"),
    ],
    "Grids": [
        Case("no such grid", "python -m mixup_jax.sweep --grid=configs/grids/rm.py --output=runs"),
        Case("a file for the runs' folder", "python -m mixup_jax.sweep --grid=configs/grids/mr.py --output=test.npz"),
        Case("a pipe for a grid", "python -m mixup_jax.sweep --grid=g.py --output=runs", lambda: os.mkfifo("g.py")),
        Case("zero runs at a time", f"python -m mixup_jax.sweep {GRID} --jobs=0"),
        Case("a negative number of accelerators", f"python launch/sweep.py {GRID} --gpus=-1"),
        Case("a cluster without Ray", f"python launch/sweep.py {GRID}", patches=without("ray")),
    ],
    "Predictions": [
        Case("no such file", "python -m mixup_jax.evaluate --predictions=tset.npz"),
        Case("an unknown format", "python -m mixup_jax.evaluate --predictions=test.npzz"),
        Case("half a file", EVALUATE, truncated("test.npz")),
        Case("a folder for a file", EVALUATE.replace("=test", "=empty"), lambda: Path("empty").rename("empty.npz")),
        Case("a pipe for a file", EVALUATE.replace("=test", "=pipe"), lambda: os.mkfifo("pipe.npz")),
        Case("two arrays of one name", EVALUATE, doubled_member),
        Case(
            "meta with two keys of one name",
            EVALUATE,
            arrays(logits=np.eye(2), labels=[0, 1], meta='{"step": 1, "step": 2}'),
        ),
        Case(
            "labels of a type too narrow for the classes",
            EVALUATE,
            arrays(logits=np.zeros((2, 300)), labels=np.array([0, 255], np.uint8)),
        ),
        Case("an .npy without labels", "python -m mixup_jax.evaluate --predictions=logits.npy"),
        Case(
            "labels in another format",
            "python -m mixup_jax.evaluate --predictions=logits.npy --labels=labels.csv",
            text("labels.csv", "0\n1\n"),
        ),
        Case(
            "a negative number of examples", f"{EVALUATE.replace('.npz', '.npy')} --labels=logits.npy", negative_shape
        ),
        Case(
            "a torch file of before 1.6",
            "python -m mixup_jax.evaluate --predictions=p.pt",
            text("p.pt", "\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M"),
        ),
        Case("no arrays", EVALUATE, text("test.npz", "accuracy 0.9\n")),
        Case("pickled objects", EVALUATE, arrays(logits=np.array([[{}, {}]]), labels=[0])),
        Case("no labels", EVALUATE, arrays(logits=np.zeros((2, 3)))),
        Case("logits of a wrong shape", EVALUATE, arrays(logits=np.zeros(6), labels=[0])),
        Case("whole numbers as logits", EVALUATE, arrays(logits=np.zeros((2, 3), int), labels=[0, 1])),
        Case("NaN among the logits", EVALUATE, arrays(logits=[[0.0, np.nan]], labels=[0])),
        Case("a label outside the classes", EVALUATE, arrays(logits=np.zeros((2, 3)), labels=[0, 7])),
        Case("arrays with other names", EVALUATE, arrays(z=np.zeros((2, 3)), labels=[0, 1])),
        Case("a key that is not there", f"{EVALUATE} --logits_key=z", arrays(logits=np.zeros((2, 3)), labels=[0, 1])),
        Case("pixels", EVALUATE, arrays(logits=np.zeros((2, 3, 4, 4)), labels=np.zeros((2, 4, 4), int))),
        Case(
            "pixels with other labels",
            f"{EVALUATE} --flatten",
            arrays(logits=np.zeros((2, 3, 4, 4)), labels=np.zeros((2, 8, 8), int)),
        ),
        Case("no confidences", EVALUATE.replace("predictions", "scores"), arrays(logits=np.zeros((2, 3)))),
        Case("one-hot labels", EVALUATE, arrays(logits=np.zeros((2, 3)), labels=np.eye(3, dtype=int)[:2])),
        Case("too few labels", EVALUATE, arrays(logits=np.zeros((2, 3)), labels=[0])),
        Case("not one label known", EVALUATE, arrays(logits=np.zeros((2, 3)), labels=[-1, -1])),
        Case("logits as probabilities", f"{EVALUATE} --probabilities"),
        Case("percentages as probabilities", f"{EVALUATE} --probabilities", likely(lambda p: 100 * p)),
        Case("probabilities, without saying so", EVALUATE, likely(lambda p: p.round(3))),
        Case("percentages for logits", EVALUATE, likely(lambda p: 100 * p)),
        Case("outputs of a sigmoid for logits", EVALUATE, likely(lambda p: (1.3 * p).clip(0, 1))),
        Case("logits and probabilities", f"{EVALUATE} --validation=validation.npz", likely(lambda p: p)),
        Case("both kinds of numbers", f"{EVALUATE} --probabilities --logits"),
        Case("meta that is not JSON", EVALUATE, arrays(logits=np.eye(2), labels=[0, 1], meta="{oops")),
        Case(
            "a name that would command the terminal",
            EVALUATE,
            arrays(logits=np.eye(2), labels=[0, 1], meta=json.dumps({"dataset": "\x1b[2J"})),
        ),
        Case("a file that unfolds beyond the limit", f"{EVALUATE} --max_gib=1e-9"),
        Case(
            "foreign data of another network",
            f"{EVALUATE} --ood=other.npz",
            functools.partial(np.savez, "other.npz", logits=-np.eye(3), labels=[0, 1, 2]),
        ),
        Case(
            "the test record under another name",
            f"{EVALUATE} --validation=copy.npz",
            copied("test.npz", "copy.npz"),
        ),
        Case("a validation record that holds test rows", f"{EVALUATE} --validation=part.npz", leaked),
        Case("labels for a file that has its own", f"{EVALUATE} --labels=logits.npy"),
        Case(
            "labels that are not an array", "python -m mixup_jax.evaluate --predictions=logits.npy --labels=logits.npy"
        ),
        Case(
            "a CSV without labels",
            "python -m mixup_jax.evaluate --predictions=p.csv",
            text("p.csv", "0,1\n0.1,0.9\n"),
        ),
        Case(
            "a CSV with another column",
            "python -m mixup_jax.evaluate --predictions=p.csv",
            text("p.csv", "background,label,0,1\n7,1,0.1,0.9\n"),
        ),
        Case(
            "a CSV that lacks a class",
            "python -m mixup_jax.evaluate --predictions=p.csv",
            text("p.csv", "label,0,2\n1,0.1,0.9\n"),
        ),
        Case(
            "a CSV with two columns of one name",
            "python -m mixup_jax.evaluate --predictions=p.csv",
            text("p.csv", "label,0,1,1\n1,0.1,0.9,0.9\n"),
        ),
        Case("a Parquet of texts", "python -m mixup_jax.evaluate --predictions=p.parquet", parquet_of_text),
    ],
    "Runs": [
        Case("no such run", "python -m mixup_jax.report runs/erm"),
        Case("a file for a run", "python -m mixup_jax.report test.npz"),
        Case("a run that was not evaluated", "python -m mixup_jax.report empty"),
        Case("a run given twice", "python -m mixup_jax.report run ./run"),
        Case("two networks of one name", "python -m mixup_jax.compare a=test.npz a=noise.npz"),
        Case("a network that is not there", "python -m mixup_jax.compare test.npz --validation vit=test.npz"),
        Case("an out-of-distribution set without a name", "python -m mixup_jax.compare test.npz --ood test=noise.npz"),
        Case("a folder without a checkpoint", "python -m mixup_jax.evaluate --workdir=run"),
        Case("no folder", "python -m mixup_jax.evaluate --workdir=rnu"),
        Case(
            "more epochs where the rate follows them",
            f"{TRAIN.replace('=new', '=run')} --config.epochs=30",
            trained_with_seed_0,
        ),
        Case("a folder of another run", f"{TRAIN.replace('=new', '=run')} --config.seed=1", trained_with_seed_0),
        Case("a config that is damaged", TRAIN.replace("=new", "=empty"), text("empty/config.json", "[" * 100_000)),
        Case("two keys of one name", REPORT, text("run/evaluation.json", '{"schema": 1, "schema": 1}')),
        Case("half an evaluation", REPORT, text("run/evaluation.json", '{"schema": 1')),
        Case("an evaluation of another schema", REPORT, evaluation(lambda document: document.update(schema=2))),
        Case("something else for a number", REPORT, result("accuracy", "high")),
        Case("a number that is not finite", REPORT, result("nll", float("nan"))),
        Case("a number that the records do not give", REPORT, result("ece_15", 0.001)),
        Case("an evaluation of another config", REPORT, evaluation(other_width)),
        Case("no record", REPORT, removed(f"run/predictions/fashion_mnist-test-{STEP}.npz")),
        Case(
            "a name that would leave the folder",
            REPORT,
            evaluation(lambda document: document["ood"].update({"../../secret": document["ood"]["mnist"]})),
        ),
        Case(
            "a name that is a device on Windows",
            REPORT,
            evaluation(lambda document: document["ood"].update({"NUL": document["ood"]["mnist"]})),
        ),
        Case(
            "a name with an invisible mark",
            REPORT,
            functools.partial(reconfigure, Path("run"), lambda config: config.update(notes="\x00")),
        ),
        Case("a damaged line in the log", REPORT, text("run/metrics.jsonl", "{}\n{oops\n{}\n")),
    ],
    "Data": [
        Case("a file for the data's folder", TRAIN.replace("=data", "=test.npz")),
        Case("files one folder above their place", DATA, misplaced, unreachable),
        Case("data that is not prepared", TRAIN.replace("=data", "=empty")),
        Case(
            "images that were cut off",
            TRAIN,
            truncated("data/arrays/fashion_mnist/train-images.npy"),
        ),
        Case("images that are missing", TRAIN, removed("data/arrays/fashion_mnist/train-labels.npy")),
        Case("a list of files that is damaged", TRAIN, text("data/arrays/fashion_mnist/source.json", "{}")),
        Case(
            "a split that is not there",
            "mixup_jax.data.load.load_split('mnist', 'train', 'data')",
        ),
        Case(
            "a wrong file among one's own",
            DATA,
            lambda: [
                Path("elsewhere/downloads/manual/mnist").mkdir(parents=True),
                *(
                    Path(f"elsewhere/downloads/manual/mnist/{name}.gz").write_bytes(b"x")
                    for name in (
                        *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
                        *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
                    )
                ),
            ],
        ),
    ],
    "Your own data": [
        Case("a folder that is not there", PETS),
        Case("images that are in no folder of a class", PETS, lambda: pets("pets")),
        Case("a single class", PETS, lambda: pets("pets/cat")),
        Case("a class that training has not", PETS, lambda: pets("pets/train/cat", "pets/train/dog", "pets/test/cow")),
        Case(
            "a file that is not an image",
            PETS,
            lambda: [pets("pets/cat", "pets/dog"), Path("pets/cat/2.png").write_text("<html>")],
        ),
        Case("a file of arrays with other names", SCANS, lambda: np.savez("scans.npz", pictures=np.zeros((4, 8, 8)))),
        Case("pixels that are fractions", SCANS, lambda: np.savez("scans.npz", x=np.zeros((4, 8, 8)), y=np.arange(4))),
        Case(
            "several classes an example",
            SCANS,
            lambda: np.savez("scans.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.ones((4, 3), int)),
        ),
    ],
    "Networks in use": [
        Case("an image that is not there", f"{PREDICT} cat.jpg"),
        Case("a folder without images", f"{PREDICT} empty"),
        Case("a table of another kind", f"{PREDICT} pets --output=t.txt"),
        Case("texts for a network of images", f"{PREDICT} table:t.csv", text("t.csv", "text,label\nfine,1\n")),
        Case("a run that has no network", f"{PREDICT} pets/0.png", lambda: pets("pets")),
        Case("a run to export that has no network", "python -m mixup_jax.export --workdir=run"),
    ],
    "The machine": [
        Case("a working directory that was deleted", EVALUATE, patches=raising("os.getcwd", FileNotFoundError)),
        Case("no network", DATA, patches=unreachable),
        Case(
            "a connection that breaks",
            DATA,
            patches=raising(
                "mixup_jax.data.__main__.prepare",
                lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            ),
        ),
        Case("a file in the place of a folder", TRAIN.replace("=new", "=test.npz/new")),
        Case("a folder in the place of the lock", TRAIN, lambda: Path("new/lock").mkdir(parents=True)),
        Case(
            "no permission to write",
            TRAIN,
            patches=lambda: [mock.patch("mixup_jax.runs.workdir.os.access", return_value=False)],
        ),
        Case(
            "no permission for the data folder",
            DATA,
            patches=lambda: [mock.patch("mixup_jax.data.cache.os.access", return_value=False)],
        ),
        Case("a page that cannot be written", REPORT.replace("=report", "=test.npz/report")),
        Case(
            "no permission to read",
            EVALUATE,
            patches=raising(
                "pathlib.Path.open", lambda: PermissionError(errno.EACCES, os.strerror(errno.EACCES), "test.npz")
            ),
        ),
        Case("a limit on the size of files", f"{EVALUATE} --output=e.json", patches=lambda: [small_files_only()]),
        Case(
            "a full disk, in the report",
            REPORT,
            patches=raising("pathlib.Path.write_bytes", lambda: full("index.html")),
        ),
        Case("a full disk, in evaluation", EVALUATE, patches=raising("pathlib.Path.write_bytes", lambda: full("e"))),
        Case(
            "a full disk, in training",
            TRAIN,
            patches=raising("mixup_jax.training.loop.train", lambda: full("new/metrics.jsonl")),
        ),
        Case(
            "an accelerator that is out of memory",
            TRAIN,
            patches=raising("mixup_jax.training.loop.train", out_of_device_memory),
        ),
        Case(
            "a decoding process that was killed",
            TRAIN,
            patches=raising("mixup_jax.training.loop.train", killed_worker),
        ),
        Case(
            "memory that ran out",
            f"{EVALUATE} --ood=noise.npz",
            patches=raising(
                "mixup_jax.evaluation.modes.evaluate_records", lambda: MemoryError("Unable to allocate 7.45 GiB")
            ),
        ),
        Case(
            "an accelerator that is not there",
            TRAIN,
            patches=raising(
                "mixup_jax.training.loop.train",
                lambda: RuntimeError(
                    "Unable to initialize backend 'tpu': INTERNAL: Failed to get global TPU topology."
                ),
            ),
        ),
        Case(
            "too many open files",
            REPORT,
            patches=raising(
                "mixup_jax.report.build.build_report", lambda: OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            ),
        ),
        Case("jax too old", TRAIN, patches=versions(jax="0.4.30")),
        Case("jaxlib of another version than jax", TRAIN, patches=versions(jaxlib="0.9.2")),
        Case("flax too old", TRAIN, patches=versions(flax="0.8.5")),
        Case("no optax", TRAIN, patches=versions(optax="")),
        Case(
            "no pyarrow",
            "python -m mixup_jax.evaluate --predictions=p.parquet",
            parquet_of_text,
            without("pyarrow"),
        ),
        Case(
            "no Grain",
            "mixup_jax.data.stream.require_grain('imagenet2012')",
            patches=lambda: [mock.patch("mixup_jax.data.stream.importlib.util.find_spec", return_value=None)],
        ),
    ],
}

UNHARMED: list[Case] = [
    Case(
        "a clock that was set back to 1970",
        f"{EVALUATE} --validation=validation.npz",
        patches=lambda: [mock.patch("time.time", return_value=0.0)],
    ),
    Case(
        "the same clock, and a record that is written",
        "mixup_jax.runs.records.save_predictions('new.npz', mixup_jax.runs.records.load_record('test.npz'))",
        patches=lambda: [
            mock.patch("time.time", return_value=0.0),
            mock.patch("time.localtime", return_value=time.gmtime(0)),
        ],
    ),
    Case(
        "half a last line in the log, as a killed run leaves it",
        "mixup_jax.report.runs.load_run(pathlib.Path('run'))",
        cut_off_log,
    ),
]
"""What needs no message: nothing goes wrong."""


def outcome(case: Case, files: Path) -> tuple[int, str]:
    """Runs a case in a copy of the valid `files`; returns the exit code and the message, both of the command."""
    folder = Path(tempfile.mkdtemp()).resolve()
    try:
        shutil.copytree(files, folder / "here")
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(folder / "here"))
            case.change()
            printed = stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            for patch in case.patches():
                stack.enter_context(patch)
            code = _run(case.typed)
        return code, printed.getvalue().replace(str(folder / "here"), ".")
    finally:
        shutil.rmtree(folder)


def _run(typed: str) -> int:
    import mixup_jax.compare
    import mixup_jax.compile_ahead
    import mixup_jax.config
    import mixup_jax.data.__main__
    import mixup_jax.data.load
    import mixup_jax.evaluate
    import mixup_jax.export
    import mixup_jax.main
    import mixup_jax.predict
    import mixup_jax.report.__main__
    import mixup_jax.sweep

    if not typed.startswith("python "):
        try:
            eval(typed, {"mixup_jax": mixup_jax, "pathlib": pathlib})
        except InputError as error:
            print(f"mixup_jax.errors.InputError: {error}", file=sys.stderr)
            return 2
        return 0
    program, *arguments = typed.removeprefix("python ").removeprefix("-m mixup_jax.").split(" ")
    doors = {
        "compare": mixup_jax.compare.main,
        "compile_ahead": mixup_jax.compile_ahead.main,
        "main": mixup_jax.main.main,
        "evaluate": mixup_jax.evaluate.main,
        "predict": mixup_jax.predict.main,
        "export": mixup_jax.export.main,
        "data": mixup_jax.data.__main__.main,
        "report": mixup_jax.report.__main__.main,
        "sweep": mixup_jax.sweep.main,
        "launch/sweep.py": lambda arguments: ray_sweep().main(arguments),
    }
    return run_command(doors[program], arguments)


@functools.cache
def ray_sweep() -> Any:
    """Returns launch/sweep.py, which is no module of the package."""
    specification = importlib.util.spec_from_file_location("ray_sweep", ROOT / "launch" / "sweep.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


HEAD = """\
# What can go wrong, and what you see

Written by `python tests/error_cases.py --write`, which runs every case below; the tests hold this page against what
happens. Each message is one line that names the thing, its value and what would be right.

| exit code | meaning |
| ---: | --- |
| 0 | done |
| 1 | a defect of this package; `sweep`: a run failed; `checkpoints`: one is damaged; `evidence`: a document differs |
| 2 | something that was given is wrong: a flag, a setting, a file |
| 3 | the machine is to blame: space, memory, network, permissions |
| 69 | another process of a training was lost; the same commands continue |
| 75 | a training was stopped; the same command continues it |
| 130 | interrupted with Ctrl-C |
| 141 | nobody reads the output any more, as after `\\| head` |

With `--debug` the traceback is shown as well. A traceback without it is a defect of this package: please report it.
"""


def document(files: Path) -> str:
    """Returns docs/errors.md."""
    parts = [HEAD]
    for section, cases in CASES.items():
        parts.append(f"\n## {section}\n")
        parts += [shown(case, *outcome(case, files)) for case in cases]
    parts.append("\n## What does no harm\n\nNothing is printed but the result, and the exit code is 0.\n")
    parts += [shown(case, *outcome(case, files)) for case in UNHARMED]
    return "".join(parts)


def shown(case: Case, code: int, message: str) -> str:
    """Returns a case as the document shows it."""
    exit_code = f" (exit code {code})" if code == EXIT_ENVIRONMENT else ""
    prompt = "$" if case.typed.startswith("python ") else ">>>"
    return f"\n{case.title[0].upper()}{case.title[1:]}{exit_code}:\n\n```\n{prompt} {case.typed}\n{message}```\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        write_files(Path(made))
        current = document(Path(made))
    if "--write" in sys.argv:
        DOCUMENT.write_text(current)
    elif current != DOCUMENT.read_text():
        sys.exit(f"{DOCUMENT} is not what happens; write it with: python tests/error_cases.py --write")
