"""From a checkpoint to logits and records: `predict` as usual, `variants` with Monte Carlo dropout, ODIN and others."""
