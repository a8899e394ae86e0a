"""Whether the kernels may be used in this process.

They may if they are not switched off, the processor has the vector registers, XLA's interface is the one that they
were written for, and a small convolution and its gradients have once agreed with XLA's in this environment.  That
comparison runs in a separate process, so that a crash cannot end the run.  Its outcome is cached beside Python's
compiled modules or in the user's cache.
"""

import hashlib
import os
import platform
import signal
import subprocess
import sys
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mixup_jax.cpu_convolution.xla_layout import header, mismatch
from mixup_jax.escapes import print_line

SWITCH = "MIXUP_JAX_CPU_CONVOLUTION"
"""Environment variable: "0" switches the kernels off, "unchecked" uses them without the comparison."""
SECONDS = 600
"""Seconds after which the comparison is stopped; it takes a few seconds, or a minute on a busy machine."""
AGREES = "agrees"
_CRASHES = {signal.SIGSEGV, signal.SIGILL, signal.SIGABRT, signal.SIGFPE}
_COMPARISON = "from mixup_jax.cpu_convolution.availability import compare; print(compare())"


@cache
def lanes() -> int:
    """Returns how many float32 numbers a vector register of this processor holds; 0 if the kernels are not used.

    If only a mismatch prevents their use, a line on stderr says so.
    """
    switch = os.environ.get(SWITCH, "1")
    if switch == "0" or os.name != "posix":
        return 0
    try:
        found, reason = _registered(checked=switch != "unchecked")
    except Exception as error:  # whatever it is, the run does not need the kernels
        found, reason = 0, f"{type(error).__name__}: {error}"
    if reason:
        print_line(f"convolutions are XLA's, not the package's faster ones: {reason}", sys.stderr)
    return found


def _registered(checked: bool) -> tuple[int, str]:
    """Registers the kernels with XLA, if they may be used.

    Returns the numbers in a register, 0 if the kernels are not used, and the reason, if the user should know it.
    """
    import numba

    from mixup_jax.cpu_convolution.compiling import registers

    found = registers()
    if not found or numba.config.DISABLE_JIT:
        return 0, ""
    reason = mismatch(header()) or (_disagreement() if checked else "")
    if reason:
        return 0, reason
    from mixup_jax.cpu_convolution.kernels import register

    register()
    return found.lanes, ""


def _disagreement() -> str:
    """Returns how the kernels disagree with XLA, or an empty string; compares once for each environment."""
    name = f"mixup_jax-convolution-{_environment()}.txt"
    for folder in _folders():
        try:
            kept = (folder / name).read_text()
        except OSError:
            continue
        return "" if kept == AGREES else f"{kept} (to compare again, delete {folder / name})"
    outcome, certain = _compare_in_a_process()
    if certain:
        _keep(name, outcome)
    return "" if outcome == AGREES else outcome


def _compare_in_a_process() -> tuple[str, bool]:
    """Returns `AGREES` or what is wrong, and whether another comparison would surely give the same."""
    environment = {**os.environ, SWITCH: "unchecked", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        # In its own session, so that a signal to the run does not look like a fault of the kernels.
        ran = subprocess.run(
            [sys.executable, "-c", _COMPARISON],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"they could not be compared with XLA's ({type(error).__name__})", False
    if ran.returncode == 0:
        return ran.stdout.strip().rpartition("\n")[2], True
    return f"comparing them with XLA's ended with code {ran.returncode}", -ran.returncode in _CRASHES


def compare() -> str:
    """Returns `AGREES`, or what is wrong with the kernels' results; must run in a separate process, which it changes.

    The images, kernels and gradients are small whole numbers, so that neither side rounds a product or a sum.
    """
    from mixup_jax import cpu_convolution as room

    room._MULTIPLICATIONS = 1
    channels, pads = lanes(), ((1, 1), (1, 1))
    for stride in (1, 2):

        def results(way: Any, x: jax.Array, kernel: jax.Array, stride: int = stride) -> Any:
            value, pull = jax.vjp(lambda x, kernel: way(x, kernel, (stride, stride), pads), x, kernel)
            return value, *pull(4 * jnp.round(jnp.sin(value)))

        shapes = ((5, 7, 6, channels), (3, 3, channels, 2 * channels))
        inputs = [4.0 * jax.random.randint(jax.random.key(0), shape, -4, 5) for shape in shapes]
        ours, natives = (jax.jit(partial(results, way)) for way in (room._convolve, room._native))
        if room.CALLED_AS not in ours.lower(*inputs).as_text():
            return "they could not be called"
        pairs = zip(ours(*inputs), natives(*inputs), strict=True)
        if not all(jnp.array_equal(our, native) for our, native in pairs):
            return "their results are not XLA's"
    return AGREES


def _environment() -> str:
    """Returns a digest of everything that the outcome may depend on."""
    from llvmlite import binding

    from mixup_jax.cpu_convolution.compiling import version

    packages = [f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "numba", "llvmlite")]
    machine = (platform.python_version(), platform.platform(), binding.get_host_cpu_name())
    facts = [version(), *packages, *machine, header()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _folders() -> list[Path]:
    """Returns the folders where an outcome may be cached, the best first; numba uses the same ones."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(__file__).parent / "__pycache__", cache_home / "mixup_jax"]


def _keep(name: str, outcome: str) -> None:
    for folder in _folders():
        unfinished = folder / f"{name}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(outcome)
            unfinished.replace(folder / name)
        except OSError:
            continue
        return
