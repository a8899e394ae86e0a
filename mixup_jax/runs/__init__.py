"""A run's folder and its files: records of predictions, foreign formats, JSON."""
