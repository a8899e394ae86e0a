"""From records of predictions to the numbers of `evaluation.json`, and from checkpoints to the records.

`measure` and `table` load numpy only; `predict` and `run` bring in jax.  Importing this package loads neither.
"""
