import os
import subprocess
import sys

import pytest

from mixup_jax import allocator

# Forty times another thread than the first takes 64 MB, fills them and frees them.  Prints the pages the kernel gave.
PROGRAM = """
import resource, sys, threading
from mixup_jax.allocator import keep_freed_memory
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
    assert allocator._only_cpus() == only_cpus
    if not only_cpus:
        assert not allocator.keep_freed_memory()


def test_accelerators_are_told_from_what_is_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for plugins, libtpu, only_cpus in (((), None, True), (("cuda",), None, False), ((), object(), False)):
        monkeypatch.setattr(allocator, "entry_points", lambda group, plugins=plugins: plugins)
        monkeypatch.setattr(allocator, "find_spec", lambda name, libtpu=libtpu: libtpu)
        assert allocator._only_cpus() == only_cpus
