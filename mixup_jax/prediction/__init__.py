"""From a checkpoint to the logits of a data set."""
