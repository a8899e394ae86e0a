"""Data: the catalogue, its preparation on disk, and the arrays that training and evaluation read.

Importing anything here loads numpy at most; tensorflow-datasets and TensorFlow are imported only by
the functions that build or decode a set for the first time.
"""
