"""ODIN: logits after a temperature and a small step of the input towards the predicted class.

Unlike the other scores it needs the network and its gradient.  What it returns are logits, so the ODIN score is
`metrics.msp_score` of a record of them, and every other metric applies as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mixup_jax.errors import InputError

Apply = Callable[[jax.Array], jax.Array]
"""Maps inputs `[B, ...]` to logits `[B, K]`, each row from its own input (batch norm uses its running means)."""


def odin_logits(apply: Apply, inputs: jax.Array, *, temperature: float, epsilon: float) -> jax.Array:
    """Returns f(x') / T with x' = x + epsilon sign(grad_x log max_k softmax_k(f(x) / T)), float32 `[B, K]`.

    Source: Liang et al. (2018, arXiv:1706.02690), equations 1 and 2: the step raises the confidence, more so for
    in-distribution inputs.  A pure function that can be jitted; at epsilon 0 it is f(x) / T.

    Args:
      apply: the network f.
      inputs: `[B, ...]`, floating point, as `apply` takes them; epsilon is in their units (after standardisation,
        of a standard deviation).
      temperature: T, a finite number above 0; the paper's is 1000.
      epsilon: the step, at least 0; chosen on validation data (`choose_epsilon`), never on test data.

    Raises:
      InputError: the temperature or epsilon is out of range.
    """
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature of ODIN is {temperature}; expected a finite number above 0")
    if not 0 <= epsilon < float("inf"):
        raise InputError(f"epsilon of ODIN is {epsilon}; expected a finite number of at least 0")

    def log_confidence(x: jax.Array) -> jax.Array:
        # Rows do not see each other, so the gradient of the sum holds the gradient of each.
        return _log_confidence(apply(x).astype(jnp.float32) / temperature).sum()

    moved = inputs + epsilon * jnp.sign(jax.grad(log_confidence)(inputs))
    return apply(moved).astype(jnp.float32) / temperature


def choose_epsilon(apply: Apply, validation: jax.Array, candidates: Sequence[float], *, temperature: float) -> float:
    """Returns the candidate of highest mean confidence on in-distribution validation inputs, the first of equals.

    The rule of Hsu et al. (2020, arXiv:2002.11297), section 3.3: it sees no out-of-distribution example at all, let
    alone one of the test.

    Args:
      apply: the network.
      validation: inputs `[B, ...]` of validation examples, as `apply` takes them.
      candidates: steps, each at least 0.
      temperature: T, as `odin_logits` takes it.

    Raises:
      InputError: no candidate, or a number is out of range.
    """
    if not candidates:
        raise InputError("no candidates for ODIN's epsilon; expected at least one number")

    def mean_confidence(epsilon: float) -> float:
        logits = odin_logits(apply, validation, temperature=temperature, epsilon=epsilon)
        return float(jnp.exp(_log_confidence(logits)).mean())

    return max(candidates, key=mean_confidence)


def _log_confidence(logits: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(logits).max(axis=-1)
