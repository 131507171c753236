"""The capabilities that the services report: those of the loaded backends, without what settings disable."""

from csi_plugin.controller.context import ControllerContext
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.offers import expansion_offers

ControllerRpc = csi_pb2.ControllerServiceCapability.RPC
GroupRpc = csi_pb2.GroupControllerServiceCapability.RPC

_ALWAYS = (
    ControllerRpc.CREATE_DELETE_VOLUME,
    ControllerRpc.PUBLISH_UNPUBLISH_VOLUME,
    ControllerRpc.LIST_VOLUMES,
    ControllerRpc.GET_CAPACITY,
    ControllerRpc.PUBLISH_READONLY,
    ControllerRpc.LIST_VOLUMES_PUBLISHED_NODES,
    ControllerRpc.GET_VOLUME,
    ControllerRpc.SINGLE_NODE_MULTI_WRITER,
    ControllerRpc.MODIFY_VOLUME,
    ControllerRpc.GET_VOLUME_HEALTH,
    ControllerRpc.LIST_VOLUME_HEALTH,
)
_BY_FEATURE = {
    "clone": (ControllerRpc.CLONE_VOLUME,),
    "snapshot": (ControllerRpc.CREATE_DELETE_SNAPSHOT, ControllerRpc.LIST_SNAPSHOTS, ControllerRpc.GET_SNAPSHOT),
    "expand": (ControllerRpc.EXPAND_VOLUME,),
}
"""Every Cinder driver must have these (Cinder's list of minimum features); settings can disable them."""


def controller_capabilities(context: ControllerContext) -> csi_pb2.ControllerGetCapabilitiesResponse:
    """CSI spec, "ControllerGetCapabilities"."""
    reported = list(_ALWAYS)
    for feature, types in _BY_FEATURE.items():
        if feature not in context.configuration.disabled_features:
            reported += types
    return csi_pb2.ControllerGetCapabilitiesResponse(
        capabilities=[csi_pb2.ControllerServiceCapability(rpc=ControllerRpc(type=rpc_type)) for rpc_type in reported]
    )


def supports_group_snapshots(context: ControllerContext) -> bool:
    """Whether some backend takes consistent snapshots of several volumes."""
    return "snapshot" not in context.configuration.disabled_features and any(
        backend.supports("groups") for backend in context.backends.ready()
    )


def group_controller_capabilities(context: ControllerContext) -> csi_pb2.GroupControllerGetCapabilitiesResponse:
    """CSI spec, "GroupControllerGetCapabilities"."""
    response = csi_pb2.GroupControllerGetCapabilitiesResponse()
    if supports_group_snapshots(context):
        response.capabilities.add().rpc.type = GroupRpc.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT
    return response


def plugin_offers(context: ControllerContext) -> frozenset[str]:
    """What GetPluginCapabilities claims beside the services, in the words of the Identity service."""
    offers = expansion_offers(context.configuration.disabled_features)
    if supports_group_snapshots(context):
        offers |= {"groups"}
    if any(context.backends.topologies().values()):
        offers |= {"snapshot_topology"}
    return offers
