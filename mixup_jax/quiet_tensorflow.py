"""The one place where TensorFlow is loaded: for preparing data and for TensorBoard events."""

from __future__ import annotations

import os


def load_tensorflow() -> None:
    """Loads TensorFlow (seconds) without its start-up notices and without its claim on accelerators.

    Raises:
      ImportError: it is not installed.
    """
    # Read by TensorFlow's C++ side as it is loaded; the second drops a notice that ignores the first.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    # TensorFlow would reserve the whole memory of accelerators that jax is to use.
    tf.config.set_visible_devices([], "GPU")
