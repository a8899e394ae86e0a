"""Compiles a config's steps for devices that this machine need not have, and reads memory, FLOPs and communication."""
