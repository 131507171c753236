"""ListVolumes, ControllerGetVolume, ListSnapshots and GetSnapshot: answered from the records alone."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from csi_plugin.controller import lookups, responses
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.controller.requests import paging
from csi_plugin.persistence.records import ConnectionRecord, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules


def list_volumes(context: ControllerContext, request: csi_pb2.ListVolumesRequest) -> csi_pb2.ListVolumesResponse:
    """CSI spec, "ListVolumes"."""
    paging.check_max_entries(request.max_entries)
    request_rules.check_sizes(request)
    after = paging.read_token("volumes", request.starting_token)
    page, last_id = paging.take_page(_volume_entries(context, request, after), request.max_entries)
    return csi_pb2.ListVolumesResponse(
        entries=page, next_token=paging.make_token("volumes", last_id) if last_id else ""
    )


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
    entries = (
        (record.id, csi_pb2.ListSnapshotsResponse.Entry(snapshot=responses.snapshot(context, record)))
        for record in _wanted_snapshots(context, request, after)
    )
    page, last_id = paging.take_page(entries, request.max_entries)
    return csi_pb2.ListSnapshotsResponse(
        entries=page, next_token=paging.make_token("snapshots", last_id) if last_id else ""
    )


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


def _volume_entries(
    context: ControllerContext, request: csi_pb2.ListVolumesRequest, after: str | None
) -> Iterator[tuple[str, csi_pb2.ListVolumesResponse.Entry]]:
    """Ids and entries; the connections of as many volumes as are read at a time are read at a time, too."""
    size = lookups.page_size(request.max_entries)
    records = filter(lookups.is_visible, lookups.iterate(context.store, VolumeRecord, after=after, page_size=size))
    while some := list(islice(records, size)):
        nodes = _published_nodes(context, some)
        for record in some:
            entry = csi_pb2.ListVolumesResponse.Entry(volume=responses.volume(record))
            entry.status.published_node_ids.extend(nodes.get(record.id, ()))
            yield record.id, entry


def _published_nodes(context: ControllerContext, volumes: Sequence[VolumeRecord]) -> dict[str, list[str]]:
    """Volume id -> the nodes it is published to, in order."""
    nodes: dict[str, list[str]] = {}
    for connection in context.store.find_any(ConnectionRecord, "volume_id", [record.id for record in volumes]):
        if connection.node_id:
            nodes.setdefault(connection.volume_id, []).append(connection.node_id)
    return {volume_id: sorted(names) for volume_id, names in nodes.items()}
