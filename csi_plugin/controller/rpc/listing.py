"""ListVolumes, ControllerGetVolume, ListSnapshots and GetSnapshot: answered from the records alone."""

from collections.abc import Iterable, Sequence

from csi_plugin.controller import lookups, responses
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.controller.requests import paging
from csi_plugin.persistence.records import ConnectionRecord, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules

_FEW = 500
"""Up to so many volumes, connections are looked up one volume at a time; beyond, all are read at once."""


def list_volumes(context: ControllerContext, request: csi_pb2.ListVolumesRequest) -> csi_pb2.ListVolumesResponse:
    """CSI spec, "ListVolumes"."""
    paging.check_max_entries(request.max_entries)
    request_rules.check_sizes(request)
    after = paging.read_token("volumes", request.starting_token)
    visible = filter(
        lookups.is_visible,
        lookups.iterate(context.store, VolumeRecord, after=after, page_size=lookups.page_size(request.max_entries)),
    )
    page, last_id = paging.take_page(visible, request.max_entries, id_of=lambda record: record.id)
    response = csi_pb2.ListVolumesResponse(next_token=paging.make_token("volumes", last_id) if last_id else "")
    nodes = _published_nodes(context, page)
    for record in page:
        entry = response.entries.add(volume=responses.volume(record))
        entry.status.published_node_ids.extend(nodes.get(record.id, ()))
    return response


def controller_get_volume(
    context: ControllerContext, request: csi_pb2.ControllerGetVolumeRequest
) -> csi_pb2.ControllerGetVolumeResponse:
    """CSI spec, "ControllerGetVolume"."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    record = lookups.get_volume(context.store, request.volume_id)
    response = csi_pb2.ControllerGetVolumeResponse(volume=responses.volume(record))
    response.status.published_node_ids.extend(_published_nodes(context, [record]).get(record.id, ()))
    return response


def list_snapshots(context: ControllerContext, request: csi_pb2.ListSnapshotsRequest) -> csi_pb2.ListSnapshotsResponse:
    """CSI spec, "ListSnapshots". Unknown ids give an empty list."""
    paging.check_max_entries(request.max_entries)
    request_rules.check_sizes(request)
    after = paging.read_token("snapshots", request.starting_token)
    page, last_id = paging.take_page(
        _wanted_snapshots(context, request, after), request.max_entries, id_of=lambda record: record.id
    )
    response = csi_pb2.ListSnapshotsResponse(next_token=paging.make_token("snapshots", last_id) if last_id else "")
    for record in page:
        response.entries.add(snapshot=responses.snapshot(context, record))
    return response


def get_snapshot(context: ControllerContext, request: csi_pb2.GetSnapshotRequest) -> csi_pb2.GetSnapshotResponse:
    """CSI spec, "GetSnapshot"."""
    request_rules.check_sizes(request)
    request_rules.require(request, "snapshot_id")
    return csi_pb2.GetSnapshotResponse(
        snapshot=responses.snapshot(context, lookups.get_snapshot(context.store, request.snapshot_id))
    )


def _wanted_snapshots(
    context: ControllerContext, request: csi_pb2.ListSnapshotsRequest, after: str | None
) -> Iterable[SnapshotRecord]:
    if not is_valid_id(request.source_volume_id) or not is_valid_id(request.snapshot_id):
        return []
    if request.snapshot_id:
        record = lookups.find_visible(context.store, SnapshotRecord, request.snapshot_id)
        matches = record is not None and request.source_volume_id in ("", record.volume_id)
        return [record] if record is not None and matches and (after is None or record.id > after) else []
    found = lookups.iterate(
        context.store,
        SnapshotRecord,
        after=after,
        page_size=lookups.page_size(request.max_entries),
        volume_id=request.source_volume_id or None,
    )
    return filter(lookups.is_visible, found)


def _published_nodes(context: ControllerContext, volumes: Sequence[VolumeRecord]) -> dict[str, list[str]]:
    """Volume id -> the nodes it is published to, in order."""
    if len(volumes) <= _FEW:
        connections = [found for record in volumes for found in lookups.connections_of(context.store, record.id)]
    else:
        connections = context.store.find(ConnectionRecord)
    nodes: dict[str, list[str]] = {}
    for connection in connections:
        if connection.node_id:
            nodes.setdefault(connection.volume_id, []).append(connection.node_id)
    return {volume_id: sorted(names) for volume_id, names in nodes.items()}
