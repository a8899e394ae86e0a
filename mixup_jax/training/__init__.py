"""Training, in the order in which a run meets it.

`trainer` checks a config and builds what it names; `loop` takes the epochs; `step` is one training step, which
`parallel` maps over devices; `optimizer` has the update and the learning rate; `recorder` writes what a run leaves
behind, its metrics by `logs`; `stop` ends a run in order.
"""
