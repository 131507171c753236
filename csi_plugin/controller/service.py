"""The Controller and GroupController services: each RPC in a module of its own, assembled here."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from csi_plugin.controller import capabilities
from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.context import Backends, Call, ControllerContext
from csi_plugin.controller.current_records import wait_until_current
from csi_plugin.controller.deleted_names import DeletedNames
from csi_plugin.controller.error_table import persistence_error
from csi_plugin.controller.health_watch import HealthWatch
from csi_plugin.controller.identifiers import Identifiers
from csi_plugin.controller.recovery.worker import Recovery
from csi_plugin.controller.returned_ids import ReturnedIds
from csi_plugin.controller.rpc import (
    create_volume,
    delete_volume,
    expand_volume,
    get_capacity,
    group_snapshots,
    listing,
    modify_volume,
    publish_volume,
    snapshots,
    validate_volume_capabilities,
    volume_health,
)
from csi_plugin.controller.rpc.node_registry import NodeRegistryService
from csi_plugin.persistence.base import PersistenceError, RecordStore
from csi_plugin.protocol import csi_pb2, csi_pb2_grpc
from csi_plugin.protocol.inflight import InFlight


class ControllerService(csi_pb2_grpc.ControllerServicer):
    """CSI's Controller service over the loaded backends; the group controller and node registry come with it.

    Creating it does no I/O. Methods raise RpcError, which the server turns into the status. Thread-safe. Every RPC goes
    the same way: validate the whole request, take the in-flight mark, look up the records, act, respond.
    """

    def __init__(
        self, configuration: ControllerConfiguration, backends: Backends, store: RecordStore, inflight: InFlight
    ) -> None:
        self._context = ControllerContext(
            configuration=configuration,
            backends=backends,
            store=store,
            inflight=inflight,
            identifiers=Identifiers(store),
            deleted_names=DeletedNames(store),
            store_waits=threading.BoundedSemaphore(configuration.most_waiting_for_store),
            returned_ids=ReturnedIds(seconds=configuration.undo_window_seconds),
        )
        self.group_controller = GroupControllerService(self._context)
        self.node_registry = NodeRegistryService(self._context)
        self.recovery = Recovery(self._context)
        self.health_watch = HealthWatch(self._context)

    def offers(self) -> frozenset[str]:
        """What GetPluginCapabilities claims beside the services."""
        return capabilities.plugin_offers(self._context)

    def CreateVolume(self, request: csi_pb2.CreateVolumeRequest, call: Any) -> csi_pb2.CreateVolumeResponse:
        with _current_store(self._context, call):
            return create_volume.create_volume(self._context, request, call)

    def DeleteVolume(self, request: csi_pb2.DeleteVolumeRequest, call: Any) -> csi_pb2.DeleteVolumeResponse:
        with _current_store(self._context, call):
            return delete_volume.delete_volume(self._context, request, call)

    def ControllerPublishVolume(
        self, request: csi_pb2.ControllerPublishVolumeRequest, call: Any
    ) -> csi_pb2.ControllerPublishVolumeResponse:
        with _current_store(self._context, call):
            return publish_volume.controller_publish_volume(self._context, request, call)

    def ControllerUnpublishVolume(
        self, request: csi_pb2.ControllerUnpublishVolumeRequest, call: Any
    ) -> csi_pb2.ControllerUnpublishVolumeResponse:
        with _current_store(self._context, call):
            return publish_volume.controller_unpublish_volume(self._context, request, call)

    def ValidateVolumeCapabilities(
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, call: Any
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        with _store_errors():
            return validate_volume_capabilities.validate_volume_capabilities(self._context, request)

    def ListVolumes(self, request: csi_pb2.ListVolumesRequest, call: Any) -> csi_pb2.ListVolumesResponse:
        with _store_errors():
            return listing.list_volumes(self._context, request)

    def GetCapacity(self, request: csi_pb2.GetCapacityRequest, call: Any) -> csi_pb2.GetCapacityResponse:
        with _store_errors():
            return get_capacity.get_capacity(self._context, request)

    def CreateSnapshot(self, request: csi_pb2.CreateSnapshotRequest, call: Any) -> csi_pb2.CreateSnapshotResponse:
        with _current_store(self._context, call):
            return snapshots.create_snapshot(self._context, request, call)

    def DeleteSnapshot(self, request: csi_pb2.DeleteSnapshotRequest, call: Any) -> csi_pb2.DeleteSnapshotResponse:
        with _current_store(self._context, call):
            return snapshots.delete_snapshot(self._context, request, call)

    def ListSnapshots(self, request: csi_pb2.ListSnapshotsRequest, call: Any) -> csi_pb2.ListSnapshotsResponse:
        with _store_errors():
            return listing.list_snapshots(self._context, request)

    def GetSnapshot(self, request: csi_pb2.GetSnapshotRequest, call: Any) -> csi_pb2.GetSnapshotResponse:
        with _store_errors():
            return listing.get_snapshot(self._context, request)

    def ControllerExpandVolume(
        self, request: csi_pb2.ControllerExpandVolumeRequest, call: Any
    ) -> csi_pb2.ControllerExpandVolumeResponse:
        with _current_store(self._context, call):
            return expand_volume.controller_expand_volume(self._context, request, call)

    def ControllerGetVolume(
        self, request: csi_pb2.ControllerGetVolumeRequest, call: Any
    ) -> csi_pb2.ControllerGetVolumeResponse:
        with _store_errors():
            return listing.controller_get_volume(self._context, request)

    def ControllerModifyVolume(
        self, request: csi_pb2.ControllerModifyVolumeRequest, call: Any
    ) -> csi_pb2.ControllerModifyVolumeResponse:
        with _current_store(self._context, call):
            return modify_volume.controller_modify_volume(self._context, request, call)

    def ControllerListVolumeHealth(
        self, request: csi_pb2.ControllerListVolumeHealthRequest, call: Any
    ) -> csi_pb2.ControllerListVolumeHealthResponse:
        with _store_errors():
            return volume_health.controller_list_volume_health(self._context, request)

    def ControllerGetVolumeHealth(
        self, request: csi_pb2.ControllerGetVolumeHealthRequest, call: Any
    ) -> csi_pb2.ControllerGetVolumeHealthResponse:
        with _store_errors():
            return volume_health.controller_get_volume_health(self._context, request)

    def ControllerGetCapabilities(
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, call: Any
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        return capabilities.controller_capabilities(self._context)


class GroupControllerService(csi_pb2_grpc.GroupControllerServicer):
    """CSI's GroupController service."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    def GroupControllerGetCapabilities(
        self, request: csi_pb2.GroupControllerGetCapabilitiesRequest, call: Any
    ) -> csi_pb2.GroupControllerGetCapabilitiesResponse:
        return capabilities.group_controller_capabilities(self._context)

    def CreateVolumeGroupSnapshot(
        self, request: csi_pb2.CreateVolumeGroupSnapshotRequest, call: Any
    ) -> csi_pb2.CreateVolumeGroupSnapshotResponse:
        with _current_store(self._context, call):
            return group_snapshots.create_volume_group_snapshot(self._context, request, call)

    def DeleteVolumeGroupSnapshot(
        self, request: csi_pb2.DeleteVolumeGroupSnapshotRequest, call: Any
    ) -> csi_pb2.DeleteVolumeGroupSnapshotResponse:
        with _current_store(self._context, call):
            return group_snapshots.delete_volume_group_snapshot(self._context, request, call)

    def GetVolumeGroupSnapshot(
        self, request: csi_pb2.GetVolumeGroupSnapshotRequest, call: Any
    ) -> csi_pb2.GetVolumeGroupSnapshotResponse:
        with _store_errors():
            return group_snapshots.get_volume_group_snapshot(self._context, request)


@contextmanager
def _current_store(context: ControllerContext, call: Call) -> Iterator[None]:
    """For an RPC that acts on what the metadata says, and must not act on the past."""
    with _store_errors():
        wait_until_current(context, call)
        yield


@contextmanager
def _store_errors() -> Iterator[None]:
    """What the metadata store raises, as statuses."""
    try:
        yield
    except PersistenceError as error:
        raise persistence_error(error) from error
