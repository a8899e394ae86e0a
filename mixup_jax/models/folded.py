"""Batch normalisation that moves less memory: folded into a convolution, or computed after max-pooling.

On an accelerator, moving activations limits the speed of a residual network. Batch normalisation of a convolution's
output y reads y several times: for the statistics, for the result, and for the sums in the gradient.

After a 1x1 convolution y = x W, the statistics follow from moments of x:

    mean(y) = mean(x) W        var(y) = diag(W^T cov(x) W)

so  norm(y) = x (W a) + b,  with  a = scale / sqrt(var + epsilon)  and  b = bias - a mean(y),  is one convolution, and
y is never stored. This pays if the convolution has more output channels than input channels, such as the last one of a
bottleneck, because x is then smaller than y.

If a > 0, relu(a y + b) increases with y, so its maximum over a window is its value at the maximum of y. Normalising
after max-pooling handles a quarter of the values. If a < 0, the sign of the kernel is changed first.

Parameters, running statistics and values are those of `Layers.conv` and `Layers.norm`, up to rounding.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.models.layers import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Layers, kaiming_normal, pads

EXACT = jax.lax.Precision.HIGHEST
Moments = tuple[jax.Array, jax.Array]


class Kernel(nn.Module):
    """The parameters of `Layers.conv`, without bias."""

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self) -> jax.Array:
        """Returns the kernel, float32 `[size, size, C, channels]`."""
        return self.param("kernel", kaiming_normal, self.shape)


class Norm(NamedTuple):
    """The parameters of `Layers.norm`, `[C]`, and its running statistics."""

    scale: jax.Array
    bias: jax.Array
    mean: nn.Variable[jax.Array]
    var: nn.Variable[jax.Array]


class NormParameters(nn.Module):
    """The parameters and statistics of `Layers.norm`, for a normalisation that is computed elsewhere."""

    channels: int
    zero_scale: bool = False

    @nn.compact
    def __call__(self) -> Norm:
        """Returns the parameters and the running statistics."""
        shape, first = (self.channels,), nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        return Norm(
            self.param("scale", first, shape),
            self.param("bias", nn.initializers.zeros, shape),
            self.variable("batch_stats", "mean", jnp.zeros, shape),
            self.variable("batch_stats", "var", jnp.ones, shape),
        )


def conv_norm(
    make: Layers, x: jax.Array, channels: int, *, names: tuple[str, str], zero_scale: bool = False
) -> jax.Array:
    """Returns a 1x1 convolution of `x` and its batch normalisation as one convolution, `[B, H, W, channels]`.

    `names` are those of the two layers' parameters; with `zero_scale` the scale starts from 0 instead of 1.
    """
    x = x.astype(make.dtype)
    kernel = Kernel((1, 1, x.shape[-1], channels), name=names[0])()
    norm = NormParameters(channels, zero_scale, name=names[1])()
    moments = partial(_product_moments, x, kernel[0, 0], make.axis_name)
    scale, shift = _scale_and_shift(norm, moments, make.train)
    y = _product(x, kernel[0, 0] * scale)
    # Add in float32, because the gradient of the shift is a sum over all positions.
    return (y.astype(shift.dtype) + shift).astype(make.dtype)


def conv_norm_pool(make: Layers, x: jax.Array, channels: int, *, names: tuple[str, str]) -> jax.Array:
    """Returns the stem of an ImageNet network, `[B, ceil(H / 4), ceil(W / 4), channels]`.

    A 7x7 convolution of stride 2, batch normalisation, ReLU, and 3x3 max-pooling of stride 2.  The arguments are
    those of `conv_norm`.
    """
    kernel = Kernel((7, 7, x.shape[-1], channels), name=names[0])()
    norm = NormParameters(channels, name=names[1])()
    sign = jnp.where(norm.scale < 0, -1, 1).astype(norm.scale.dtype)
    y = _convolve(x.astype(make.dtype), kernel * sign, 2, pads(7, make.padding))

    def moments() -> Moments:
        mean, var = _moments(y, make.axis_name)
        return sign * mean, var

    scale, shift = _scale_and_shift(norm, moments, make.train)
    highest = nn.max_pool(y, (3, 3), (2, 2), padding=pads(3, make.padding))
    return nn.relu(highest * (scale * sign) + shift).astype(make.dtype)


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """Returns max(x, 0).  Its gradient (0 at 0) needs only the result, which is kept in any case, and not `x`."""
    return jnp.maximum(x, 0)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = relu(x)
    return y, y


def _relu_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, gradient, jnp.zeros_like(gradient)),)


relu.defvjp(_relu_forward, _relu_backward)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: str | list[tuple[int, int]] = "SAME") -> jax.Array:
    numbers, strides = ("NHWC", "HWIO", "NHWC"), (stride, stride)
    return jax.lax.conv_general_dilated(x, kernel.astype(x.dtype), strides, padding, dimension_numbers=numbers)


def _scale_and_shift(norm: Norm, moments: Callable[[], Moments], train: bool) -> tuple[jax.Array, jax.Array]:
    """Returns a and b of a y + b, from the running moments or, in training, from the batch's, which update them."""
    mean, var = moments() if train else (norm.mean.value, norm.var.value)
    if train:
        for running, current in ((norm.mean, mean), (norm.var, var)):
            running.value = BATCH_NORM_MOMENTUM * running.value + (1 - BATCH_NORM_MOMENTUM) * current
    scale = norm.scale * jax.lax.rsqrt(var + BATCH_NORM_EPSILON)
    return scale, norm.bias - scale * mean


def _moments(y: jax.Array, axis_name: str | None) -> Moments:
    """Returns mean and variance of each channel, at least float32, in one pass over `y`."""
    wide = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    means = jnp.mean(wide, axis=(0, 1, 2)), jnp.mean(wide**2, axis=(0, 1, 2))
    mean, square = means if axis_name is None else jax.lax.pmean(means, axis_name)
    return mean, jnp.maximum(square - mean**2, 0)


def _product_moments(x: jax.Array, kernel: jax.Array, axis_name: str | None) -> Moments:
    """Returns mean and variance of each channel of x W, from those of x `[B, H, W, C]` and W `[C, K]`."""
    count = x.size // x.shape[-1]
    means = jax.tree.map(lambda total: total / count, _sums(x))
    mean, square = means if axis_name is None else jax.lax.pmean(means, axis_name)
    covariance = square - mean[:, None] * mean
    var = jnp.sum(kernel * jnp.dot(covariance, kernel, precision=EXACT), axis=0)
    return jnp.dot(mean, kernel, precision=EXACT), jnp.maximum(var, 0)


@jax.custom_vjp
def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns x W `[B, H, W, K]` in the type of `x`; the gradient of W is at least float32.

    The normalisation turns that gradient into a difference of large sums, for which bfloat16 is not precise enough.
    """
    return _convolve(x, kernel[None, None], 1)


def _product_backward(inputs: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    return _convolve(gradient, kernel.T[None, None], 1), jnp.einsum(
        "bhwi,bhwo->io", x, gradient, preferred_element_type=kernel.dtype
    )


_product.defvjp(lambda x, kernel: (_product(x, kernel), (x, kernel)), _product_backward)


@jax.custom_vjp
def _sums(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns sum x `[C]` and sum x x^T `[C, C]` over all positions, at least float32.

    The first is computed as a product too, which on a TPU is twice as fast as a reduction.  The gradient of the second
    is one product, where automatic differentiation would make two.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    ones = jnp.ones((*x.shape[:3], 8), x.dtype)
    total = jnp.einsum("bhwi,bhwj->ij", ones, x, preferred_element_type=wide)[0]
    return total, jnp.einsum("bhwi,bhwj->ij", x, x, preferred_element_type=wide)


def _sums_backward(x: jax.Array, gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array]:
    total, square = gradients
    both = jnp.einsum("bhwi,ij->bhwj", x, (square + square.T).astype(x.dtype))
    return ((both.astype(total.dtype) + total).astype(x.dtype),)


_sums.defvjp(lambda x: (_sums(x), x), _sums_backward)
