"""The Controller and GroupController services: each RPC in a module of its own, assembled here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from csi_plugin.controller import capabilities
from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.context import Backends, Core
from csi_plugin.controller.error_table import persistence_error
from csi_plugin.controller.identifiers import Identifiers
from csi_plugin.controller.node_registry import NodeRegistryService
from csi_plugin.controller.recovery.recovery import Recovery
from csi_plugin.controller.returned_ids import HandedOut
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
from csi_plugin.persistence.base import PersistenceError, RecordStore
from csi_plugin.protocol import csi_pb2, csi_pb2_grpc
from csi_plugin.protocol.errors import unavailable
from csi_plugin.protocol.inflight import InFlight


class ControllerService(csi_pb2_grpc.ControllerServicer):
    """CSI's Controller service over the loaded backends; the group controller and node registry come with it.

    Making it does no I/O. Methods raise RpcError, which the server turns into the status. Thread-safe. Every RPC goes
    the same way: validate the whole request, take the in-flight mark, read the state, act, answer.
    """

    def __init__(
        self, configuration: ControllerConfiguration, backends: Backends, store: RecordStore, inflight: InFlight
    ) -> None:
        self._core = Core(
            configuration=configuration,
            backends=backends,
            store=store,
            inflight=inflight,
            identifiers=Identifiers(store),
            handed_out=HandedOut(seconds=configuration.undo_window_seconds),
        )
        self.group_controller = GroupControllerService(self._core)
        self.node_registry = NodeRegistryService(self._core)
        self.recovery = Recovery(self._core)

    def offers_group_snapshots(self) -> bool:
        """Whether GetPluginCapabilities should claim GROUP_CONTROLLER_SERVICE."""
        return capabilities.group_snapshots_claimed(self._core)

    def offers_topology(self) -> bool:
        """Whether GetPluginCapabilities should claim VOLUME_ and SNAPSHOT_ACCESSIBILITY_CONSTRAINTS."""
        return any(self._core.backends.topologies().values())

    def CreateVolume(self, request: csi_pb2.CreateVolumeRequest, context: Any) -> csi_pb2.CreateVolumeResponse:
        with _acting(self._core):
            return create_volume.create_volume(self._core, request, context)

    def DeleteVolume(self, request: csi_pb2.DeleteVolumeRequest, context: Any) -> csi_pb2.DeleteVolumeResponse:
        with _acting(self._core):
            return delete_volume.delete_volume(self._core, request, context)

    def ControllerPublishVolume(
        self, request: csi_pb2.ControllerPublishVolumeRequest, context: Any
    ) -> csi_pb2.ControllerPublishVolumeResponse:
        with _acting(self._core):
            return publish_volume.controller_publish_volume(self._core, request, context)

    def ControllerUnpublishVolume(
        self, request: csi_pb2.ControllerUnpublishVolumeRequest, context: Any
    ) -> csi_pb2.ControllerUnpublishVolumeResponse:
        with _acting(self._core):
            return publish_volume.controller_unpublish_volume(self._core, request, context)

    def ValidateVolumeCapabilities(
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, context: Any
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        with _store_errors():
            return validate_volume_capabilities.validate_volume_capabilities(self._core, request)

    def ListVolumes(self, request: csi_pb2.ListVolumesRequest, context: Any) -> csi_pb2.ListVolumesResponse:
        with _store_errors():
            return listing.list_volumes(self._core, request)

    def GetCapacity(self, request: csi_pb2.GetCapacityRequest, context: Any) -> csi_pb2.GetCapacityResponse:
        with _store_errors():
            return get_capacity.get_capacity(self._core, request)

    def CreateSnapshot(self, request: csi_pb2.CreateSnapshotRequest, context: Any) -> csi_pb2.CreateSnapshotResponse:
        with _acting(self._core):
            return snapshots.create_snapshot(self._core, request, context)

    def DeleteSnapshot(self, request: csi_pb2.DeleteSnapshotRequest, context: Any) -> csi_pb2.DeleteSnapshotResponse:
        with _acting(self._core):
            return snapshots.delete_snapshot(self._core, request, context)

    def ListSnapshots(self, request: csi_pb2.ListSnapshotsRequest, context: Any) -> csi_pb2.ListSnapshotsResponse:
        with _store_errors():
            return listing.list_snapshots(self._core, request)

    def GetSnapshot(self, request: csi_pb2.GetSnapshotRequest, context: Any) -> csi_pb2.GetSnapshotResponse:
        with _store_errors():
            return listing.get_snapshot(self._core, request)

    def ControllerExpandVolume(
        self, request: csi_pb2.ControllerExpandVolumeRequest, context: Any
    ) -> csi_pb2.ControllerExpandVolumeResponse:
        with _acting(self._core):
            return expand_volume.controller_expand_volume(self._core, request, context)

    def ControllerGetVolume(
        self, request: csi_pb2.ControllerGetVolumeRequest, context: Any
    ) -> csi_pb2.ControllerGetVolumeResponse:
        with _store_errors():
            return listing.controller_get_volume(self._core, request)

    def ControllerModifyVolume(
        self, request: csi_pb2.ControllerModifyVolumeRequest, context: Any
    ) -> csi_pb2.ControllerModifyVolumeResponse:
        with _acting(self._core):
            return modify_volume.controller_modify_volume(self._core, request, context)

    def ControllerListVolumeHealth(
        self, request: csi_pb2.ControllerListVolumeHealthRequest, context: Any
    ) -> csi_pb2.ControllerListVolumeHealthResponse:
        with _store_errors():
            return volume_health.controller_list_volume_health(self._core, request)

    def ControllerGetVolumeHealth(
        self, request: csi_pb2.ControllerGetVolumeHealthRequest, context: Any
    ) -> csi_pb2.ControllerGetVolumeHealthResponse:
        with _store_errors():
            return volume_health.controller_get_volume_health(self._core, request)

    def ControllerGetCapabilities(
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: Any
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        return capabilities.controller_capabilities(self._core)


class GroupControllerService(csi_pb2_grpc.GroupControllerServicer):
    """CSI's GroupController service."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def GroupControllerGetCapabilities(
        self, request: csi_pb2.GroupControllerGetCapabilitiesRequest, context: Any
    ) -> csi_pb2.GroupControllerGetCapabilitiesResponse:
        return capabilities.group_controller_capabilities(self._core)

    def CreateVolumeGroupSnapshot(
        self, request: csi_pb2.CreateVolumeGroupSnapshotRequest, context: Any
    ) -> csi_pb2.CreateVolumeGroupSnapshotResponse:
        with _acting(self._core):
            return group_snapshots.create_volume_group_snapshot(self._core, request, context)

    def DeleteVolumeGroupSnapshot(
        self, request: csi_pb2.DeleteVolumeGroupSnapshotRequest, context: Any
    ) -> csi_pb2.DeleteVolumeGroupSnapshotResponse:
        with _acting(self._core):
            return group_snapshots.delete_volume_group_snapshot(self._core, request, context)

    def GetVolumeGroupSnapshot(
        self, request: csi_pb2.GetVolumeGroupSnapshotRequest, context: Any
    ) -> csi_pb2.GetVolumeGroupSnapshotResponse:
        with _store_errors():
            return group_snapshots.get_volume_group_snapshot(self._core, request)


@contextmanager
def _acting(core: Core) -> Iterator[None]:
    """For an RPC that acts on what the metadata say, and must not act on the past."""
    with _store_errors():
        if not core.store.is_current():
            raise unavailable("the metadata store was away, and what it has now is not read yet; try again")
        yield


@contextmanager
def _store_errors() -> Iterator[None]:
    """What the metadata store raises, as statuses."""
    try:
        yield
    except PersistenceError as error:
        raise persistence_error(error) from error
