"""The LUKS header of an encrypted volume is on top of the size that the CO asks for: on the storage, a volume is larger
by a whole GiB, Cinder's unit, and its data begins behind that.

Volumes of earlier versions have the header inside their size; so do copies of them.
"""

from collections.abc import Mapping

from csi_plugin.persistence.records import LUKS_HEADER_GIB, SnapshotRecord, VolumeRecord

_GIB = 1


def new_header_gib(encryption: Mapping[str, str]) -> int:
    """GiB on top of a new volume that is not a copy, by its encryption."""
    return _GIB if encryption else 0


def header_gib(record: VolumeRecord | SnapshotRecord) -> int:
    """GiB of a volume or snapshot that are for the header alone."""
    return int(_marks_of(record).get(LUKS_HEADER_GIB, "0"))


def usable_gib(record: VolumeRecord | SnapshotRecord) -> int:
    """The size of a volume, or of what a snapshot was taken of, as the CO knows it."""
    size = record.volume_size if isinstance(record, SnapshotRecord) else record.size
    return size - header_gib(record)


def marks(gib: int) -> dict[str, str]:
    """What a record's metadata says of such a header."""
    return {LUKS_HEADER_GIB: str(gib)} if gib else {}


def _marks_of(record: VolumeRecord | SnapshotRecord) -> Mapping[str, str]:
    return record.metadata if isinstance(record, SnapshotRecord) else record.admin_metadata
