"""The Node service: each RPC in a module of its own, assembled here."""

from typing import Any

from csi_plugin.node import health, publish, stage, volume_use
from csi_plugin.node.attachment_process import AttachmentProcess
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.node.context import Core
from csi_plugin.node.reconnection import Reconnection
from csi_plugin.node.registration import Registration, Registry
from csi_plugin.node.volume_state import VolumeStates
from csi_plugin.protocol import csi_pb2, csi_pb2_grpc
from csi_plugin.protocol.inflight import InFlight

_Rpc = csi_pb2.NodeServiceCapability.RPC
_CAPABILITIES = (
    _Rpc.STAGE_UNSTAGE_VOLUME,
    _Rpc.GET_VOLUME_STATS,
    _Rpc.EXPAND_VOLUME,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
    _Rpc.GET_VOLUME_HEALTH,
    _Rpc.GET_STORAGE_HEALTH,
)
"""VOLUME_MOUNT_GROUP is left out: kubelet would then skip fsGroup, which it handles well by itself."""


class NodeService(csi_pb2_grpc.NodeServicer):
    """CSI's Node service. Methods raise RpcError, which the server turns into the status. Thread-safe."""

    def __init__(self, configuration: NodeConfiguration, inflight: InFlight) -> None:
        self._core = Core(
            configuration=configuration,
            states=VolumeStates(configuration.volumes_dir),
            attachment_process=AttachmentProcess(configuration),
            inflight=inflight,
        )
        self._reconnection = Reconnection(self._core)

    def register_with(self, registry: Registry) -> Registration:
        """Register this node, in the background, and use the registry from now on."""
        registration = Registration(self._core.configuration, self._core.attachment_process, registry)
        self._core.registration = registration
        registration.start()
        return registration

    def start(self) -> None:
        """Look after the connections of staged volumes from now on."""
        self._reconnection.start()

    def stop(self) -> None:
        self._reconnection.stop()

    def NodeStageVolume(self, request: csi_pb2.NodeStageVolumeRequest, context: Any) -> csi_pb2.NodeStageVolumeResponse:
        stage.node_stage_volume(self._core, request, context)
        return csi_pb2.NodeStageVolumeResponse()

    def NodeUnstageVolume(
        self, request: csi_pb2.NodeUnstageVolumeRequest, context: Any
    ) -> csi_pb2.NodeUnstageVolumeResponse:
        stage.node_unstage_volume(self._core, request, context)
        return csi_pb2.NodeUnstageVolumeResponse()

    def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, context: Any
    ) -> csi_pb2.NodePublishVolumeResponse:
        publish.node_publish_volume(self._core, request, context)
        return csi_pb2.NodePublishVolumeResponse()

    def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: Any
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        publish.node_unpublish_volume(self._core, request, context)
        return csi_pb2.NodeUnpublishVolumeResponse()

    def NodeGetVolumeStats(
        self, request: csi_pb2.NodeGetVolumeStatsRequest, context: Any
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        return volume_use.node_get_volume_stats(self._core, request)

    def NodeExpandVolume(
        self, request: csi_pb2.NodeExpandVolumeRequest, context: Any
    ) -> csi_pb2.NodeExpandVolumeResponse:
        return volume_use.node_expand_volume(self._core, request, context)

    def NodeGetVolumeHealth(
        self, request: csi_pb2.NodeGetVolumeHealthRequest, context: Any
    ) -> csi_pb2.NodeGetVolumeHealthResponse:
        return health.node_get_volume_health(self._core, request)

    def NodeGetStorageHealth(
        self, request: csi_pb2.NodeGetStorageHealthRequest, context: Any
    ) -> csi_pb2.NodeGetStorageHealthResponse:
        return health.node_get_storage_health(self._core, request)

    def NodeGetCapabilities(
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: Any
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        return csi_pb2.NodeGetCapabilitiesResponse(
            capabilities=[csi_pb2.NodeServiceCapability(rpc=_Rpc(type=capability)) for capability in _CAPABILITIES]
        )

    def NodeGetInfo(self, request: csi_pb2.NodeGetInfoRequest, context: Any) -> csi_pb2.NodeGetInfoResponse:
        configuration = self._core.configuration
        topology = csi_pb2.Topology(segments=configuration.topology) if configuration.topology else None
        return csi_pb2.NodeGetInfoResponse(
            node_id=configuration.node_id,
            max_volumes_per_node=configuration.max_volumes,
            accessible_topology=topology,
        )
