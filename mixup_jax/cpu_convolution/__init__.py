"""Compiled kernels of convolutions for a CPU: XLA calls them where they are faster than its own.

Images are `[B, H, W, C]`, kernels `[h, w, C, K]`, and all is float32.  The last side of what is returned is a
multiple of `lanes()`.  docs/benchmarks.md has what they bring.

What numba compiles is imported by the functions that need it: a program without kernels does not wait for it.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

Pads = tuple[tuple[int, int], tuple[int, int]]
Shape = tuple[int, ...]
Strides = tuple[int, int]
Geometry = tuple[Shape, Strides, Pads]
"""The sides of the filters, the strides, and how many zeros are before and after H, and W."""

CALLED_AS = "mixup_jax.convolution"
"""How the name begins by which XLA calls the kernels."""
_MOST_SUMS = 2**26
"""Of all parts of the gradient of a kernel, which each part of the work has for itself: 256 MiB."""


@cache
def lanes() -> int:
    """Returns how many numbers a vector register of this machine holds; 0 where the kernels cannot be used."""
    import numba

    from mixup_jax.cpu_convolution.registers import registers

    found = registers()
    if not found or os.name != "posix" or numba.config.DISABLE_JIT:
        return 0
    _register()
    return found.lanes


_FILTERED: Geometry = ((3, 3), (1, 1), ((1, 1), (1, 1)))


def winograd_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution `[B, H, W, K]` of images, padded by 1, with a 3x3 kernel; `lanes()` divides C too."""
    from mixup_jax.cpu_convolution import handler, winograd

    channels, maps = kernel.shape[2:]
    weights = (maps // _columns(maps), winograd.CELLS, channels, _columns(maps))
    space = (_parts(x), winograd.scratch(x.shape[1:], maps))
    return _called(handler.WINOGRAD_CONVOLUTION, [(*x.shape[:3], maps), weights, space], _FILTERED, x, kernel)


def winograd_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns the gradient of that kernel, given the convolution's, `[B, H, W, K]`."""
    from mixup_jax.cpu_convolution import handler, winograd

    channels, maps = x.shape[3], gradient.shape[3]
    parts = _parts(x, sums=winograd.CELLS * channels * maps)
    totals = (parts, winograd.CELLS, channels, maps)
    space = (parts, winograd.scratch_of_gradient(x.shape[1:], maps))
    shapes = [(parts, 3, 3, channels, maps), totals, space]
    return _sum(_called(handler.WINOGRAD_KERNEL_GRADIENT, shapes, _FILTERED, x, gradient))


def outputs(x: jax.Array, size: Shape, strides: Strides, pads: Pads) -> list[int]:
    """Returns how many outputs a convolution has along H and W; 0 where the filter is larger than a side.

    Args:
      x: images.
      size: h and w of the kernel.
      strides: along H and W.
      pads: before and after H, and W; not negative.
    """
    sides = zip(x.shape[1:3], pads, size, strides, strict=True)
    return [max(0, (side + sum(pad) - taps) // stride + 1) for side, pad, taps, stride in sides]


def convolution(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the convolution of images with a kernel.

    Args:
      x: images.
      kernel: of the filters.
      strides: along H and W.
      pads: before and after H, and W; not negative.
    """
    from mixup_jax.cpu_convolution import direct, handler

    size, maps = kernel.shape[:2], kernel.shape[3]
    sides = outputs(x, size, strides, pads)
    space = map(direct.padded, sides, size, strides)
    shapes = [(x.shape[0], *sides, maps), (_parts(x), *space, x.shape[3])]
    return _called(handler.CONVOLUTION, shapes, (size, strides, pads), x, _panels(kernel))


def kernel_gradient(x: jax.Array, gradient: jax.Array, size: Shape, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the gradient of the kernel.

    Args:
      x: images.
      gradient: that of the convolution.
      size: h and w of the kernel.
      strides: along H and W.
      pads: before and after H, and W; not negative.
    """
    from mixup_jax.cpu_convolution import direct, handler

    channels, maps = x.shape[3], gradient.shape[3]
    parts = _parts(x, sums=size[0] * size[1] * channels * maps)
    space = map(direct.padded, gradient.shape[1:3], size, strides)
    shapes = [(parts, size[0], size[1] * channels, maps), (parts, *space, channels)]
    of_parts = _called(handler.KERNEL_GRADIENT, shapes, (size, strides, pads), x, gradient)
    return _sum(of_parts).reshape(*size, channels, maps)


def image_gradient(gradient: jax.Array, kernel: jax.Array, sides: Shape, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the gradient of the images.

    Args:
      gradient: that of the convolution.
      kernel: of the filters.
      sides: H and W of the images.
      strides: along them.
      pads: before and after H, and W; not negative.
    """
    from mixup_jax.cpu_convolution import direct, handler

    (down, across), (high, wide) = strides, kernel.shape[:2]
    parities = [kernel[i::down, j::across][::-1, ::-1] for i in range(down) for j in range(across)]
    parts = jnp.concatenate([_panels(jnp.swapaxes(part, 2, 3)).reshape(-1) for part in parities])
    before = [pad[0] for pad in pads]
    space = map(direct.padded_gradient, sides, before, gradient.shape[1:3], (high, wide), strides)
    shapes = [(gradient.shape[0], *sides, kernel.shape[2]), (_parts(gradient), *space, kernel.shape[3])]
    return _called(handler.IMAGE_GRADIENT, shapes, ((high, wide), strides, pads), gradient, parts)


def _panels(kernel: jax.Array) -> jax.Array:
    """Returns `[panels, h, w * C, columns]`."""
    high, wide, channels, maps = kernel.shape
    panels = kernel.reshape(high, wide * channels, maps // _columns(maps), _columns(maps))
    return jnp.moveaxis(panels, 2, 0)


def _sum(parts: jax.Array) -> jax.Array:
    # Not jnp.sum: XLA would make a reduction of it, ten times as slow as what it fuses into the parameters' update.
    return functools.reduce(jnp.add, list(parts))


def _columns(maps: int) -> int:
    from mixup_jax.cpu_convolution.products import columns_of_panel

    return int(columns_of_panel.py_func(maps))


def _parts(x: jax.Array, sums: int = 1) -> int:
    """Returns into how many parts the work is divided: one for each processor, but no more than there are images.

    Args:
      x: images.
      sums: how many numbers each part adds up for itself.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, x.shape[0], _MOST_SUMS // sums))


def _called(kind: int, shapes: Sequence[Shape], geometry: Geometry, *arguments: jax.Array) -> jax.Array:
    """Returns the first result of a kernel; the others are its scratch space, which XLA allocates."""
    (size_down, size_across), (down, across), ((top, _), (left, _)) = geometry
    attributes = {"size_down": size_down, "size_across": size_across, "down": down, "across": across}
    attributes |= {"top": top, "left": left, "kind": kind}
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    call = jax.ffi.ffi_call(_target(), results, vmap_method="sequential")
    return call(*arguments, **{name: np.int64(value) for name, value in attributes.items()})[0]


def _target() -> str:
    # XLA's compilation cache keeps programs that call this name: another kernel, or another machine's, has another one.
    from mixup_jax.cpu_convolution.symbols import version

    return f"{CALLED_AS}.{version()}"


def _register() -> None:
    """Compiles the kernels, which takes seconds where that was not kept, and makes them known to XLA."""
    from mixup_jax.cpu_convolution.handler import handler

    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(_target(), capsule(handler.address, None, None), platform="cpu")
