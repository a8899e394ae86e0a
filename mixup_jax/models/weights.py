"""Weights from elsewhere, by the names of this package's networks.

torchvision and timm give the layers of a ResNet the same names; `from_torch` translates them and turns the arrays into
flax's order of axes.  `fitted` compares weights with a network's.
"""

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError

Weights = dict[str, npt.NDArray[np.float32]]
"""Arrays by their paths, such as "params/head/kernel" or "batch_stats/norm_stem/mean"."""

HEAD = "head"
"""The name of the last layer in every network."""
WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning write in front of all names."""
LAYERS = (
    (re.compile(r"conv1"), "stem"),
    (re.compile(r"bn1"), "norm_stem"),
    (re.compile(r"fc"), HEAD),
    (re.compile(r"layer(\d+)\.(\d+)\.conv(\d)"), "stage_{}_block_{}/conv_{}"),
    (re.compile(r"layer(\d+)\.(\d+)\.bn(\d)"), "stage_{}_block_{}/norm_{}"),
    (re.compile(r"layer(\d+)\.(\d+)\.downsample\.0"), "stage_{}_block_{}/conv_shortcut"),
    (re.compile(r"layer(\d+)\.(\d+)\.downsample\.1"), "stage_{}_block_{}/norm_shortcut"),
)
STATISTICS = {"running_mean": "mean", "running_var": "var"}


def from_torch(arrays: Mapping[str, npt.NDArray[np.float32]], source: str) -> Weights:
    """Returns the weights of torchvision's or timm's ResNets; raises InputError, with a name, for another network's."""
    for wrapper in WRAPPERS:
        if arrays and all(name.startswith(wrapper) for name in arrays):
            arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    weights = {}
    for name, array in arrays.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        ours = _layer(layer)
        if ours is None or leaf not in ("weight", "bias", *STATISTICS):
            raise InputError(
                f"weights {source} have a {name!r}, which no ResNet of torchvision or of timm has; expected those of "
                "a ResNet or ResNeXt, such as resnet18, without attention or another stem"
            )
        if leaf in STATISTICS:
            weights[f"batch_stats/{ours}/{STATISTICS[leaf]}"] = array
        elif leaf == "weight" and array.ndim > 1:
            # A convolution [K, C, H, W] becomes [H, W, C, K], and a linear layer [K, C] becomes [C, K].
            weights[f"params/{ours}/kernel"] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        else:
            weights[f"params/{ours}/{'scale' if leaf == 'weight' else 'bias'}"] = array
    return weights


def _layer(name: str) -> str | None:
    for pattern, ours in LAYERS:
        match = pattern.fullmatch(name)
        if match:
            numbers = match.groups()
            return ours.format(*numbers[:1], *(int(block) + 1 for block in numbers[1:2]), *numbers[2:])
    return None


def fitted(weights: Weights, shapes: Mapping[str, tuple[int, ...]], source: str) -> tuple[Weights, list[str]]:
    """Returns the weights that a network takes, and lines about those that it does not take as they are.

    The head is left out where the classes differ.  A stem for colour images takes grey ones by the sum of its kernels
    over the channels: the same result as for a grey image in three channels.  `shapes` are those of the network's
    parameters and batch statistics, by their paths; messages call the weights `source`.

    Raises:
      InputError: an array is missing, one too many, or of another shape.
    """
    expected = "expected those of the same network: model.name, model.width, model.stem"
    missing, more = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
    if missing or more:
        what = f"no {missing[0]}" if missing else f"a {more[0]}, which the network has not"
        raise InputError(f"weights {source} have {what}; {expected}")
    taken, lines, stem = dict(weights), list[str](), "params/stem/kernel"
    if stem in taken and taken[stem].shape[2:3] == (3,) and shapes[stem][2] == 1:
        taken[stem] = taken[stem].sum(axis=2, keepdims=True)
        lines.append(f"{source}: the kernels of the stem are summed over the channels, for grey images")
    head = [name for name in taken if name.startswith(f"params/{HEAD}/")]
    if any(taken[name].shape[-1:] != shapes[name][-1:] for name in head):
        classes, ours = taken[head[0]].shape[-1], shapes[head[0]][-1]
        lines.append(f"{source}: the head of {classes} classes is replaced by a new one of {ours}")
        taken = {name: array for name, array in taken.items() if name not in head}
    for name, array in taken.items():
        if array.shape != shapes[name]:
            found = f"{name} {list(array.shape)}, where the network has {list(shapes[name])}"
            raise InputError(f"weights {source} have {found}; {expected}")
        if not np.isfinite(array).all():
            raise InputError(f"weights {source} have NaN or infinity in {name}; expected finite numbers")
    return taken, lines
