"""Snapshots that no object of Kubernetes refers to: what backups left behind, for a person to delete."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from csi_plugin.controller import lookups
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.crd.snapshot_contents import SnapshotReferences, read_references
from csi_plugin.persistence.records import GroupSnapshotRecord, SnapshotRecord


@dataclass(frozen=True, kw_only=True)
class Unreferenced:
    """A snapshot, or a group snapshot with its members."""

    kind: str
    """snapshot or group_snapshot."""
    id: str
    name: str
    """What the CO called it."""
    backend: str
    volume: str
    """Id of the volume that it is of."""
    group_snapshot: str
    """Id of the group snapshot that it is of."""
    gib: int | None
    created: datetime | None


def list_unreferenced(store: RecordStore, api: ResourceAPI, *, driver_name: str) -> list[Unreferenced]:
    """Snapshots and group snapshots that the CO was told of, and no VolumeSnapshotContent or VolumeGroupSnapshotContent
    refers to. Those of a group that is referred to are left out. Raises PersistenceError.
    """
    # The records first: what is made meanwhile has an object of Kubernetes before it has a record.
    snapshots = [found for found in lookups.iterate(store, SnapshotRecord) if lookups.is_visible(found)]
    groups = [found for found in lookups.iterate(store, GroupSnapshotRecord) if lookups.is_visible(found)]
    references = read_references(api, driver_name=driver_name)
    return [*_snapshots(snapshots, references), *_groups(groups, snapshots, references)]


def _snapshots(records: list[SnapshotRecord], references: SnapshotReferences) -> Iterator[Unreferenced]:
    for record in records:
        if references.has_snapshot(record.id, record.csi_name) or references.has_group(record.group_snapshot_id or ""):
            continue
        yield Unreferenced(
            kind=record.KIND,
            id=record.id,
            name=record.csi_name or record.display_name or "",
            backend=record.backend,
            volume=record.volume_id,
            group_snapshot=record.group_snapshot_id or "",
            gib=record.volume_size,
            created=record.created_at,
        )


def _groups(
    records: list[GroupSnapshotRecord], snapshots: list[SnapshotRecord], references: SnapshotReferences
) -> Iterator[Unreferenced]:
    """Group snapshots without snapshots that could be deleted: those go with their last snapshot."""
    with_members = {snapshot.group_snapshot_id for snapshot in snapshots}
    for record in records:
        if record.id in with_members or references.has_group(record.id, record.csi_name):
            continue
        yield Unreferenced(
            kind=record.KIND,
            id=record.id,
            name=record.csi_name or "",
            backend=record.backend,
            volume="",
            group_snapshot="",
            gib=None,
            created=record.created_at,
        )
