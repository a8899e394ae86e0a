"""Whether the kernels may be used in this process.

They may where nobody has switched them off, the processor has the vector registers, XLA's interface is the one that
they were written for (`interface`), and a small convolution and its gradients agreed with XLA's once in this
environment.  That comparison runs in a process of its own, so that whatever it meets cannot end the run, and its
outcome is kept beside Python's compiled modules or in the user's cache.
"""

from __future__ import annotations

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

from mixup_jax.cpu_convolution import interface
from mixup_jax.escapes import one_line

SWITCH = "MIXUP_JAX_CPU_CONVOLUTION"
"""Environment variable: "0" switches the kernels off, "unchecked" uses them without the comparison."""
SECONDS = 600
"""After which a comparison that does not end is given up; it takes a few, and on a busy machine a minute."""
AGREES = "agrees"
_CRASHES = {signal.SIGSEGV, signal.SIGILL, signal.SIGABRT, signal.SIGFPE}
_COMPARISON = "from mixup_jax.cpu_convolution.availability import compare; print(compare())"


@cache
def lanes() -> int:
    """Returns how many float32 numbers a vector register of this processor holds; 0 where the kernels are not used.

    Where they could be used but for a mismatch, says so in a line on stderr.
    """
    switch = os.environ.get(SWITCH, "1")
    if switch == "0" or os.name != "posix":
        return 0
    try:
        found, reason = _registered(checked=switch != "unchecked")
    except Exception as error:  # whatever it is, the run can do without the kernels
        found, reason = 0, f"{type(error).__name__}: {error}"
    if reason:
        print(one_line(f"convolutions are XLA's, not the package's faster ones: {reason}"), file=sys.stderr)
    return found


def _registered(checked: bool) -> tuple[int, str]:
    """Makes the kernels known to XLA, if they may be used.

    Args:
      checked: ask for the first comparison.

    Returns:
      The numbers in a register, 0 where the kernels are not used; and why they are not, where that is to be said.
    """
    import numba

    from mixup_jax.cpu_convolution.compiling import registers

    found = registers()
    if not found or numba.config.DISABLE_JIT:
        return 0, ""
    reason = interface.mismatch(interface.header()) or (_disagreement() if checked else "")
    if reason:
        return 0, reason
    from mixup_jax.cpu_convolution.kernels import register

    register()
    return found.lanes, ""


def _disagreement() -> str:
    """Returns why the kernels do not agree with XLA in this environment, or an empty string; asks once for each."""
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
    """Returns `AGREES` or what is wrong, and whether that is sure to be the same the next time."""
    environment = {**os.environ, SWITCH: "unchecked", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        # In a session of its own: what interrupts the run is not taken for a fault of the kernels.
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
    """Returns `AGREES`, or what is wrong with the kernels' results; changes this process, so it runs in its own.

    The images, kernels and gradients are small whole numbers, of which neither side rounds a product or a sum.
    """
    import jax
    import jax.numpy as jnp

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
    """Returns a digest of all that the outcome may depend on."""
    from llvmlite import binding

    from mixup_jax.cpu_convolution.compiling import version

    packages = [f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "numba", "llvmlite")]
    machine = (platform.python_version(), platform.platform(), binding.get_host_cpu_name())
    facts = [version(), *packages, *machine, interface.header()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _folders() -> list[Path]:
    """Returns where an outcome may be kept, the best first: the same places as numba's compiled code."""
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
