"""From records of predictions to the numbers of `evaluation.json`, and from checkpoints to the records.

`measure` and `export` load numpy only; `run` brings in jax.  Importing this package loads neither.
"""
