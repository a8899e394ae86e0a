"""Training methods as points in a small space of numbers, and the mathematics that they share."""
