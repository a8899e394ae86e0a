"""Training methods, each a set of numbers, and the mathematics that they share."""
