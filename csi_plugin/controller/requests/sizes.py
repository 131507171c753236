"""Capacity ranges in bytes as Cinder sizes in GiB."""

from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import invalid_argument, out_of_range
from csi_plugin.units import GIB

DEFAULT_GIB = 1
"""Size of a new volume when the CO names none."""
LARGEST_GIB = 2**31 - 1
"""Cinder keeps sizes in 32-bit integers."""


def check_range(capacity: csi_pb2.CapacityRange) -> None:
    """Refuse a range that makes no sense, with INVALID_ARGUMENT."""
    for name in ("required_bytes", "limit_bytes"):
        value = getattr(capacity, name)
        if value < 0:
            raise invalid_argument(f"capacity_range.{name} must not be negative, not {value}")
    if 0 < capacity.limit_bytes < capacity.required_bytes:
        raise invalid_argument(
            f"capacity_range.required_bytes ({capacity.required_bytes}) must not exceed "
            f"capacity_range.limit_bytes ({capacity.limit_bytes})"
        )


def size_in_range(capacity: csi_pb2.CapacityRange, *, smallest: int = DEFAULT_GIB, header: int = 0) -> int:
    """The size in GiB to provision: required_bytes rounded up, or ``smallest`` GiB when nothing is required; and
    ``header`` GiB on top, which the CO does not see.

    Raises OUT_OF_RANGE when whole GiB cannot meet the limit, or Cinder has no such size.
    """
    size = -(-capacity.required_bytes // GIB) or smallest
    if size + header > LARGEST_GIB:
        raise out_of_range(f"capacity_range.required_bytes must be at most {LARGEST_GIB - header} GiB")
    if 0 < capacity.limit_bytes < size * GIB:
        raise out_of_range(
            f"capacity_range.limit_bytes ({capacity.limit_bytes}) is less than the smallest size that fits: volumes "
            f"have whole GiB, here {size} GiB ({size * GIB} bytes)"
        )
    return size + header


def fits(size: int, capacity: csi_pb2.CapacityRange) -> bool:
    """Whether a volume of ``size`` GiB lies in the range."""
    return capacity.required_bytes <= size * GIB and not 0 < capacity.limit_bytes < size * GIB
