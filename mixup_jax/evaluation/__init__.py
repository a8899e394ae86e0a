"""From records of predictions to the numbers of `evaluation.json`, and from checkpoints to the records.

`measure` and `export` import numpy but not jax; `run` imports jax.
"""
