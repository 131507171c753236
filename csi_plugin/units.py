"""Units of size."""

GIB = 1024**3
"""Bytes of a GiB, which is Cinder's unit."""

MIB = 1024**2
