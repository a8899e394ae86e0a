"""Data sets: the catalogue, preparing sets on disk, and reading them for training and evaluation.

Importing these modules does not import tensorflow-datasets or TensorFlow; the functions that build or decode a set for
the first time import them.
"""
