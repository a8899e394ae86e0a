"""From a checkpoint to logits and records: `predict` as the network was trained, `variants` in other ways."""
