"""Volumes that no PersistentVolume refers to: what claims that were deleted early, or sidecars that died, left."""

from csi_plugin.controller import lookups
from csi_plugin.controller.recovery.orphans import Orphan
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.crd.cluster_volumes import persistent_volumes
from csi_plugin.persistence.records import Phase, VolumeRecord

UNREFERENCED = "no PersistentVolume refers to it"


def list_unreferenced(store: RecordStore, api: ResourceAPI) -> list[Orphan]:
    """Volumes that the CO was told of and that no PersistentVolume refers to. One that was made just now may still get
    its own. Raises PersistenceError."""
    # The records first: what is deleted meanwhile has lost its PersistentVolume after its record.
    volumes = [found for found in lookups.iterate(store, VolumeRecord) if lookups.is_visible(found)]
    referenced = persistent_volumes(api)
    return [
        Orphan(
            kind=record.KIND,
            id=record.id,
            name=record.csi_name or record.display_name or "",
            backend=record.backend,
            phase=(record.intent.phase if record.intent else Phase.READY).value,
            created=record.created_at,
            ended_at=None,
            condition=UNREFERENCED,
        )
        for record in volumes
        if record.id not in referenced
    ]
