import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from mixup_jax import libraries

# Forty times another thread than the first takes 64 MB, fills them and frees them.  Prints the pages the kernel gave.
PROGRAM = """
import resource, sys, threading
from mixup_jax.libraries import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "kept" else None
import numpy as np

def work():
    for _ in range(40):
        np.ones(8_000_000)

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_freed_memory_is_not_taken_from_the_kernel_again():
    printed = {}
    for way in ("kept", "given back"):
        command = [sys.executable, "-c", PROGRAM, way]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        printed[way] = done.stdout.split()
    assert printed["kept"][0] == "True"
    # One array's pages against forty arrays'; fewer, and as many fewer, where the kernel gives huge ones.
    assert int(printed["kept"][1]) < int(printed["given back"][1]) / 4


@pytest.mark.parametrize(("wanted", "only_cpus"), [("cpu", True), ("tpu,cpu", False), ("cuda", False)])
def test_nothing_is_set_where_jax_has_accelerators(wanted: str, only_cpus: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_PLATFORMS", wanted)
    assert libraries._only_cpus() == only_cpus
    if not only_cpus:
        assert not libraries.keep_freed_memory()


def test_accelerators_are_told_from_what_is_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for plugins, libtpu, only_cpus in (((), None, True), (("cuda",), None, False), ((), object(), False)):
        monkeypatch.setattr(libraries, "entry_points", lambda group, plugins=plugins: plugins)
        monkeypatch.setattr(libraries, "find_spec", lambda name, libtpu=libtpu: libtpu)
        assert libraries._only_cpus() == only_cpus


def test_convolutions_are_not_taken_to_ynnpack_and_products_are():
    def both(x, kernel):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y, y.reshape(-1, 64) @ kernel[0, 0]

    x, kernel = jnp.ones((32, 28, 28, 64)), jnp.ones((3, 3, 64, 64))
    texts = [
        jax.jit(both, compiler_options=options).lower(x, kernel).compile().as_text()
        for options in (None, libraries.fast_to_run("cpu"))
    ]
    # If XLA's default gave the same program, the option would no longer be needed.
    assert [text.count("__ynn_fusion") for text in texts] == [2, 1]


def test_options_that_xla_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch):
    libraries._known.cache_clear()
    monkeypatch.setattr(libraries, "_FAST_TO_RUN", {"xla_cpu_no_such_option": "1"})
    assert libraries.fast_to_run("cpu") is None
    libraries._known.cache_clear()


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_only_programs_for_a_cpu_have_options(platform: str):
    assert libraries.fast_to_run(platform) is libraries.fast_to_compile(platform) is None
