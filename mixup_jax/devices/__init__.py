"""Devices and processes: the mesh, each device's part of a batch, and runs in several processes."""
