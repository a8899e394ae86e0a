"""Mixup training, and honest measurement of how calibrated its networks are.

Importing the package loads nothing heavy; `mixup_jax.methods` brings in jax, and
`from mixup_jax import metrics` numpy alone.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mixup_jax")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+unknown"
