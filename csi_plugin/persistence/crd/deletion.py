"""Deletions by administrators: a record goes when nothing refers to it; what it describes stays on the storage."""

from typing import Any

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd.api import Missing, ResourceAPI
from csi_plugin.persistence.crd.kinds import ALLOW_DELETE
from csi_plugin.persistence.crd.resource import RecordResource
from csi_plugin.persistence.initiators import Find
from csi_plugin.persistence.records import ConnectionRecord, GroupRecord, Record, SnapshotRecord, VolumeRecord


def deletion_blocker(resource: RecordResource, find: Find, api: ResourceAPI) -> str:
    """Why a resource that someone deleted has to stay; empty when it may go."""
    if not resource.allows_deletion:
        return (
            f"only the driver deletes records; to drop this one and leave the data on the storage, annotate it "
            f'with {ALLOW_DELETE}="true"'
        )
    record = resource.record
    for kind, key in _REFERENCES.get(type(record), ()):
        if found := find(kind, **{key: record.id}):
            return f"{kind.KIND} {found[0].id} refers to it"
    try:
        return _kubernetes_reference(record, api)
    except PersistenceError as error:
        return f"cannot tell whether Kubernetes still refers to it: {error}"


def persistent_volume_of(volume_id: str, api: ResourceAPI) -> str:
    """Name of the PersistentVolume that is there for a volume; empty for none. Raises PersistenceError."""
    for volume in api.list_in_cluster("", "v1", "persistentvolumes"):
        if (volume["spec"].get("csi") or {}).get("volumeHandle") == volume_id:
            return str(volume["metadata"]["name"])
    return ""


_REFERENCES: dict[type[Record], tuple[tuple[type[Record], str], ...]] = {
    VolumeRecord: ((ConnectionRecord, "volume_id"), (SnapshotRecord, "volume_id")),
    GroupRecord: ((VolumeRecord, "group_id"),),
}


def _kubernetes_reference(record: Record, api: ResourceAPI) -> str:
    if isinstance(record, VolumeRecord) and (name := persistent_volume_of(record.id, api)):
        return f"PersistentVolume {name} refers to it"
    if isinstance(record, SnapshotRecord):
        for content in _snapshot_contents(api):
            handles = (
                (content.get("status") or {}).get("snapshotHandle"),
                content["spec"].get("source", {}).get("snapshotHandle"),
            )
            if record.id in handles:
                return f"VolumeSnapshotContent {content['metadata']['name']} refers to it"
    return ""


def _snapshot_contents(api: ResourceAPI) -> list[Any]:
    try:
        return list(api.list_in_cluster("snapshot.storage.k8s.io", "v1", "volumesnapshotcontents"))
    except Missing:
        return []
