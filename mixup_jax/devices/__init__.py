"""Devices and processes: meshes, their shares of a batch, joining and leaving."""
