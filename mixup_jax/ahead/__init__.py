"""Compiling a config's steps ahead, for devices that need not be there, and reading what came out."""
