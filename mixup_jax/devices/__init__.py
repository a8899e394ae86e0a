"""Devices and processes: the mesh, the share of a batch that each device has, and runs in several processes."""
