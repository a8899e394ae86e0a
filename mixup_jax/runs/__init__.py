"""A run's folder and its files: records of predictions, foreign formats, JSON.

What reads a file raises InputError, with the file's name, if it is missing, no regular file, damaged or too large (JSON
has at most 64 MiB), or if it does not hold what the function promises.  Nothing in a file is unpickled.
"""
