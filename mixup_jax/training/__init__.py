"""Training: the step, what drives it, and what it leaves in the folder of a run."""
