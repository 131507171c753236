"""What Kubernetes has of snapshots: VolumeSnapshotContents and VolumeGroupSnapshotContents, which refer to ours."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from csi_plugin.persistence.crd.api import Missing, ResourceAPI

_UID_LENGTH = 36


@dataclass
class SnapshotReferences:
    """The ids that contents name, and the UIDs in the names of those that do not yet."""

    snapshots: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)

    def has_snapshot(self, snapshot_id: str, csi_name: str | None = None) -> bool:
        return snapshot_id in self.snapshots or self._is_being_made(csi_name)

    def has_group(self, group_snapshot_id: str, csi_name: str | None = None) -> bool:
        return group_snapshot_id in self.groups or self._is_being_made(csi_name)

    def _is_being_made(self, csi_name: str | None) -> bool:
        """The sidecar calls a snapshot ``snapshot-UID``, and its content is ``snapcontent-UID``."""
        return csi_name is not None and csi_name[-_UID_LENGTH:] in self.uids


def read_references(api: ResourceAPI, *, driver_name: str) -> SnapshotReferences:
    """All references of this driver's contents. Raises PersistenceError, and Missing where the cluster has no snapshots
    at all."""
    references = SnapshotReferences()
    for content in api.list_in_cluster("snapshot.storage.k8s.io", "v1", "volumesnapshotcontents"):
        if content["spec"].get("driver") == driver_name:
            source, status = content["spec"].get("source") or {}, content.get("status") or {}
            references.snapshots |= {source.get("snapshotHandle", ""), status.get("snapshotHandle", "")} - {""}
            references.uids.add(content["metadata"]["name"][-_UID_LENGTH:])
    for content in _group_contents(api):
        if content["spec"].get("driver") == driver_name:
            source, status = content["spec"].get("source") or {}, content.get("status") or {}
            handles = source.get("groupSnapshotHandles") or {}
            named = {handles.get("volumeGroupSnapshotHandle", ""), status.get("volumeGroupSnapshotHandle", "")}
            references.groups |= named - {""}
            references.uids.add(content["metadata"]["name"][-_UID_LENGTH:])
    return references


def _group_contents(api: ResourceAPI) -> Iterator[Any]:
    """None in a cluster without group snapshots."""
    for version in ("v1", "v1beta2", "v1beta1"):
        try:
            yield from api.list_in_cluster("groupsnapshot.storage.k8s.io", version, "volumegroupsnapshotcontents")
        except Missing:
            continue
        return
