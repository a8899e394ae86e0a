"""Training.

`trainer` checks a config and builds network, optimiser and compiled functions; `loop` runs the epochs; `step` has the
training step and maps it over devices; `optimizer` has the update and the learning rate; `recorder` writes
the results of a run, metrics by `logs`; `stop` ends a run early and safely.
"""
