"""The kernels as functions of jax arrays: shapes of results and scratch space, and the call through XLA.

Images are `[B, H, W, C]` and kernels `[h, w, C, K]`, all float32.  The last dimension of a result must be a multiple of
the numbers in a vector register.
"""

import ctypes
import functools
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mixup_jax.cpu_convolution import CALLED_AS, direct, threads, winograd
from mixup_jax.cpu_convolution.compiling import version
from mixup_jax.cpu_convolution.products import columns_of_panel

Shape = tuple[int, ...]
Strides = tuple[int, int]
Pads = tuple[tuple[int, int], tuple[int, int]]
Geometry = tuple[Shape, Strides, Pads]
"""The sides of the filters, the strides, and the zeros before and after H and before and after W."""

_MOST_SUMS = 2**26
"""The most numbers that all parts of a kernel's gradient may sum together, 256 MiB; each part has its own sums."""

_FILTERED: Geometry = ((3, 3), (1, 1), ((1, 1), (1, 1)))


def winograd_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution `[B, H, W, K]` of images, padded by 1, with a 3x3 kernel.

    C must be a multiple of the numbers in a register, too.
    """
    channels, maps = kernel.shape[2:]
    weights = (maps // _columns(maps), winograd.CELLS, channels, _columns(maps))
    space = (_parts(x), winograd.scratch(x.shape[1:], maps))
    return _called(threads.WINOGRAD_CONVOLUTION, [(*x.shape[:3], maps), weights, space], _FILTERED, x, kernel)


def winograd_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns the gradient of that kernel, given the gradient of the result, `[B, H, W, K]`."""
    channels, maps = x.shape[3], gradient.shape[3]
    parts = _parts(x, sums=winograd.CELLS * channels * maps)
    totals = (parts, winograd.CELLS, channels, maps)
    space = (parts, winograd.scratch_of_gradient(x.shape[1:], maps))
    shapes = [(parts, 3, 3, channels, maps), totals, space]
    return _sum(_called(threads.WINOGRAD_KERNEL_GRADIENT, shapes, _FILTERED, x, gradient))


def convolution(x: jax.Array, kernel: jax.Array, sides: Shape, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the convolution of images with a kernel.

    `sides` are the height and width of the result; `pads`, at least 0, the zeros before and after H and W.
    """
    size, maps = kernel.shape[:2], kernel.shape[3]
    space = map(direct.padded, sides, size, strides)
    shapes = [(x.shape[0], *sides, maps), (_parts(x), *space, x.shape[3])]
    return _called(threads.CONVOLUTION, shapes, (size, strides, pads), x, _panels(kernel))


def kernel_gradient(x: jax.Array, gradient: jax.Array, size: Shape, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the gradient of a kernel with sides `size`, given the images and the gradient of the result."""
    channels, maps = x.shape[3], gradient.shape[3]
    parts = _parts(x, sums=size[0] * size[1] * channels * maps)
    space = map(direct.padded, gradient.shape[1:3], size, strides)
    shapes = [(parts, size[0], size[1] * channels, maps), (parts, *space, channels)]
    of_parts = _called(threads.KERNEL_GRADIENT, shapes, (size, strides, pads), x, gradient)
    return _sum(of_parts).reshape(*size, channels, maps)


def image_gradient(gradient: jax.Array, kernel: jax.Array, sides: Shape, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the gradient of images with height and width `sides`, given the gradient of the result."""
    (down, across), (high, wide) = strides, kernel.shape[:2]
    parities = [kernel[i::down, j::across][::-1, ::-1] for i in range(down) for j in range(across)]
    parts = jnp.concatenate([_panels(jnp.swapaxes(part, 2, 3)).reshape(-1) for part in parities])
    before = [pad[0] for pad in pads]
    space = map(direct.padded_gradient, sides, before, gradient.shape[1:3], (high, wide), strides)
    shapes = [(gradient.shape[0], *sides, kernel.shape[2]), (_parts(gradient), *space, kernel.shape[3])]
    return _called(threads.IMAGE_GRADIENT, shapes, ((high, wide), strides, pads), gradient, parts)


def _panels(kernel: jax.Array) -> jax.Array:
    """Returns a kernel `[h, w, C, K]` in panels of its maps, `[panels, h, w * C, columns]`."""
    high, wide, channels, maps = kernel.shape
    panels = kernel.reshape(high, wide * channels, maps // _columns(maps), _columns(maps))
    return jnp.moveaxis(panels, 2, 0)


def _sum(parts: jax.Array) -> jax.Array:
    # Not jnp.sum: XLA's reduction is ten times slower than these additions, which it fuses into the parameters' update.
    return functools.reduce(jnp.add, list(parts))


def _columns(maps: int) -> int:
    return int(columns_of_panel.py_func(maps))


def _parts(x: jax.Array, sums: int = 1) -> int:
    """Returns the number of parts into which the work is divided: one for each processor, at most one for each image.

    Each part has `sums` sums of its own.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, x.shape[0], _MOST_SUMS // sums))


def _called(kind: int, shapes: Sequence[Shape], geometry: Geometry, *arguments: jax.Array) -> jax.Array:
    """Returns the first result of a kernel; its other results are scratch space, which XLA allocates."""
    (size_down, size_across), (down, across), ((top, _), (left, _)) = geometry
    attributes = {"size_down": size_down, "size_across": size_across, "down": down, "across": across}
    attributes |= {"top": top, "left": left, "kind": kind}
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    call = jax.ffi.ffi_call(_target(), results, vmap_method="sequential")
    return call(*arguments, **{name: np.int64(value) for name, value in attributes.items()})[0]


def _target() -> str:
    # XLA's compilation cache keeps programs that call this name, so kernels that differ need different names.
    return f"{CALLED_AS}.{version()}"


@functools.cache
def register() -> None:
    """Registers the kernels with XLA."""
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(_target(), capsule(threads.handler.address, None, None), platform="cpu")
