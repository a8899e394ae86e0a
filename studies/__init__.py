"""What is worked out from runs of this package, one folder a question."""
