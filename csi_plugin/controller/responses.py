"""Records as CSI messages."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from csi_plugin.controller import luks_headers, requested_sizes
from csi_plugin.controller.context import ControllerContext
from csi_plugin.persistence.records import TRUE_BYTES, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.storage.cinder import driver_stats
from csi_plugin.units import GIB


def volume(record: VolumeRecord) -> csi_pb2.Volume:
    """The volume as the first response described it, with its present size."""
    size = int(record.admin_metadata.get(TRUE_BYTES, luks_headers.usable_gib(record) * GIB))
    response = csi_pb2.Volume(volume_id=record.id, capacity_bytes=size)
    if record.intent is not None:
        response.volume_context.update(record.intent.context)
        response.accessible_topology.extend(csi_pb2.Topology(segments=segments) for segments in record.intent.topology)
        source = record.intent.request.get("source") or {}
        if "snapshot" in source:
            response.content_source.snapshot.snapshot_id = source["snapshot"]
        elif "volume" in source:
            response.content_source.volume.volume_id = source["volume"]
    return response


def snapshot(context: ControllerContext, record: SnapshotRecord) -> csi_pb2.Snapshot:
    """The snapshot, usable from where its backend is accessible: that is where volumes created from it go.

    Without the id of a group snapshot: with it, a CO would never delete the snapshot alone (CSI, "Snapshot").
    """
    topologies = context.backends.topologies().get(record.backend, [])
    return csi_pb2.Snapshot(
        snapshot_id=record.id,
        source_volume_id=record.volume_id,
        size_bytes=requested_sizes.restore_bytes(record),
        creation_time=timestamp(record.created_at),
        ready_to_use=record.status == "available" and not _is_lost(context, record),
        accessible_topology=[csi_pb2.Topology(segments=segments) for segments in topologies],
    )


def _is_lost(context: ControllerContext, record: SnapshotRecord) -> bool:
    """Whether the storage says that the snapshot has lost its data."""
    backend = context.backends.find_ready(record.backend)
    return backend is not None and record.id in driver_stats.lost_snapshots(backend.driver_stats.recent())


def timestamp(moment: datetime | None) -> Timestamp:
    """A stored moment; the epoch when none was stored. Whole seconds, as databases keep them: repeats are equal."""
    response = Timestamp()
    response.FromSeconds(int((moment or datetime.fromtimestamp(0, UTC)).timestamp()))
    return response
