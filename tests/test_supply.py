"""What the package is made of: the lock, licences, the wheel's files, and no network at import."""

import configparser
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements" / "ci.txt").read_text()
PINNED = re.compile(r"^([a-z0-9._-]+==[^\\\n]+?) *\\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)


def declared(section: str, key: str) -> list[str]:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return [line for line in settings[section][key].splitlines() if line and not line.startswith("#")]


def wanted() -> list[Requirement]:
    extras = [declared("options.extras_require", extra) for extra in ("tensorflow", "dev")]
    return [Requirement(text) for text in [*declared("options", "install_requires"), *extras[0], *extras[1]]]


def test_the_lock_pins_with_hashes_what_setup_cfg_asks_for():
    pinned: dict[str, list[Requirement]] = {}
    for text, hashes in PINNED.findall(LOCK):
        requirement = Requirement(text)
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", hashes)
        pinned.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    assert sum(map(len, pinned.values())) == len(re.findall("^[a-z]", LOCK, re.MULTILINE))
    for requirement in wanted():
        locked = pinned[canonicalize_name(requirement.name)]
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        here = [one for one in locked if one.marker is None or one.marker.evaluate()]
        assert len(here) == 1, f"lock again, as CONTRIBUTING.md says: {requirement}"
        (version,) = (bound.version for bound in here[0].specifier)
        assert requirement.specifier.contains(version), f"lock again, as CONTRIBUTING.md says: {requirement}"


def test_the_licence_of_every_package_is_allowed(monkeypatch, capsys):
    check = runpy.run_path(str(ROOT / ".ci" / "licences.py"))
    assert check["main"]() == 0, capsys.readouterr().out
    assert {"jax", "flax", "numpy", "matplotlib", "mixup-jax"} <= check["needed"]().keys()
    monkeypatch.setitem(check["main"].__globals__, "ALLOWED", check["ALLOWED"] - {"Apache-2.0"})
    assert check["main"]() == 1
    assert "jax " in capsys.readouterr().out


def test_every_config_is_in_the_wheel():
    assert declared("options.data_files", "share/mixup_jax/configs") == ["configs/*.py"]


def test_every_folder_of_the_package_is_a_package():
    # `packages = find:` leaves out a folder without it, and so would the wheel.
    folders = {path.parent for path in (ROOT / "mixup_jax").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_every_file_beside_the_modules_is_in_the_wheel():
    patterns = declared("options.package_data", "mixup_jax")
    package = ROOT / "mixup_jax"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    others = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    }
    assert others == packed


NO_NETWORK = """
import importlib, pkgutil, socket, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        sys.exit(f"{event} {arguments} while {name} was imported")

sys.addaudithook(refuse)
import mixup_jax
name = "mixup_jax"
modules = [module.name for module in pkgutil.walk_packages(mixup_jax.__path__, "mixup_jax.")]
for name in modules:
    importlib.import_module(name)
name = "the check itself"
print(len(modules), flush=True)
socket.create_connection(("127.0.0.1", 9))
"""


def test_no_module_reaches_for_the_network_when_it_is_imported():
    command = [sys.executable, "-c", NO_NETWORK]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert int(answer.stdout or 0) == len(list((ROOT / "mixup_jax").rglob("*.py"))) - 1, answer.stderr
    assert "while the check itself was imported" in answer.stderr


SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bpypi-AgEI[A-Za-z0-9_-]{20,}|(?i:\b(?:password|api_key|secret_key|auth_token)\s*=\s*['\"][^'\"]{6,}['\"])"
)


@pytest.mark.parametrize("suffix", ["py", "cfg", "toml", "md", "yml", "yaml", "json", "txt", "sbatch", "j2"])
def test_no_file_holds_a_secret(suffix):
    for folder in ("mixup_jax", "configs", "docs", "launch", "benchmarks", "requirements", "tests", ".github"):
        for path in (ROOT / folder).rglob(f"*.{suffix}"):
            assert not SECRETS.search(path.read_text(errors="replace")), path
    assert SECRETS.search("aws = 'AKIA" + "ABCDEFGHIJKLMNOP'")
