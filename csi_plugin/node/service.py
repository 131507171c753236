"""The Node service: each RPC in a module of its own, assembled here."""

import grpc

from csi_plugin.node import expand_volume, health, publish, stage, stats
from csi_plugin.node.attachment_process import AttachmentProcess
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.node.context import NodeContext
from csi_plugin.node.reconnection import Reconnection
from csi_plugin.node.registration import Registration, Registry
from csi_plugin.node.staged_volumes import attached_volumes, held_volumes
from csi_plugin.node.trimming import Trimming
from csi_plugin.node.unwanted_volumes import UnwantedVolumes
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
        self._context = NodeContext(
            configuration=configuration,
            states=VolumeStates(configuration.volumes_dir),
            attachment_process=AttachmentProcess(configuration),
            inflight=inflight,
        )
        self._reconnection = Reconnection(self._context)
        self._trimming = Trimming(self._context)
        self._unwanted_volumes = UnwantedVolumes(self._context)

    def register_with(self, registry: Registry) -> Registration:
        """Register this node, in the background, and use the registry from now on."""
        context = self._context
        registration = Registration(
            context.configuration,
            context.attachment_process,
            registry,
            staged=lambda: held_volumes(context),
            attached=lambda: attached_volumes(context),
        )
        self._context.registration = registration
        registration.start()
        return registration

    def start(self) -> None:
        """Look after the connections of staged volumes, those that nobody wants, and the room of their filesystems."""
        self._reconnection.start()
        self._unwanted_volumes.start()
        self._trimming.start()

    def stop(self) -> None:
        self._reconnection.stop()
        self._unwanted_volumes.stop()
        self._trimming.stop()

    def NodeStageVolume(
        self, request: csi_pb2.NodeStageVolumeRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeStageVolumeResponse:
        stage.node_stage_volume(self._context, request, call)
        return csi_pb2.NodeStageVolumeResponse()

    def NodeUnstageVolume(
        self, request: csi_pb2.NodeUnstageVolumeRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeUnstageVolumeResponse:
        stage.node_unstage_volume(self._context, request, call)
        return csi_pb2.NodeUnstageVolumeResponse()

    def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodePublishVolumeResponse:
        publish.node_publish_volume(self._context, request, call)
        return csi_pb2.NodePublishVolumeResponse()

    def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        publish.node_unpublish_volume(self._context, request, call)
        return csi_pb2.NodeUnpublishVolumeResponse()

    def NodeGetVolumeStats(
        self, request: csi_pb2.NodeGetVolumeStatsRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        return stats.node_get_volume_stats(self._context, request)

    def NodeExpandVolume(
        self, request: csi_pb2.NodeExpandVolumeRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeExpandVolumeResponse:
        return expand_volume.node_expand_volume(self._context, request, call)

    def NodeGetVolumeHealth(
        self, request: csi_pb2.NodeGetVolumeHealthRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeGetVolumeHealthResponse:
        return health.node_get_volume_health(self._context, request)

    def NodeGetStorageHealth(
        self, request: csi_pb2.NodeGetStorageHealthRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeGetStorageHealthResponse:
        return health.node_get_storage_health(self._context, request)

    def NodeGetCapabilities(
        self, request: csi_pb2.NodeGetCapabilitiesRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        return csi_pb2.NodeGetCapabilitiesResponse(
            capabilities=[csi_pb2.NodeServiceCapability(rpc=_Rpc(type=capability)) for capability in _CAPABILITIES]
        )

    def NodeGetInfo(
        self, request: csi_pb2.NodeGetInfoRequest, call: grpc.ServicerContext
    ) -> csi_pb2.NodeGetInfoResponse:
        configuration = self._context.configuration
        topology = csi_pb2.Topology(segments=configuration.topology) if configuration.topology else None
        return csi_pb2.NodeGetInfoResponse(
            node_id=configuration.node_id,
            max_volumes_per_node=configuration.max_volumes,
            accessible_topology=topology,
        )
