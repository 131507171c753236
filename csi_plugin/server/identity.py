"""CSI's Identity service."""

from collections.abc import Callable
from typing import Any

from google.protobuf import wrappers_pb2

import csi_plugin
from csi_plugin.protocol import csi_pb2, csi_pb2_grpc

_Service = csi_pb2.PluginCapability.Service
_Expansion = csi_pb2.PluginCapability.VolumeExpansion


class IdentityService(csi_pb2_grpc.IdentityServicer):
    """Who this plugin is, what it offers, and whether it is ready. Never waits for storage."""

    def __init__(
        self,
        driver_name: str,
        *,
        offers: Callable[[], frozenset[str]],
        is_ready: Callable[[], bool],
    ) -> None:
        """The plugin as a whole has a controller service, so a node says so too (CSI: GetPluginCapabilities).
        VOLUME_ACCESSIBILITY_CONSTRAINTS are claimed whatever the backends have: each node answers with a topology.

        ``offers``: which of ``groups``, ``snapshot_topology``, ``expansion`` and ``expansion_online`` hold now.

        ``is_ready`` may raise RpcError.
        """
        self._driver_name = driver_name
        self._offers = offers
        self.is_ready = is_ready

    def GetPluginInfo(self, request: csi_pb2.GetPluginInfoRequest, context: Any) -> csi_pb2.GetPluginInfoResponse:
        return csi_pb2.GetPluginInfoResponse(
            name=self._driver_name, vendor_version=own_version(), manifest={"project": "cinderbox"}
        )

    def GetPluginCapabilities(
        self, request: csi_pb2.GetPluginCapabilitiesRequest, context: Any
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        offers = self._offers()
        services = [_Service.CONTROLLER_SERVICE]
        if "groups" in offers:
            services.append(_Service.GROUP_CONTROLLER_SERVICE)
        services.append(_Service.VOLUME_ACCESSIBILITY_CONSTRAINTS)
        if "snapshot_topology" in offers:
            services.append(_Service.SNAPSHOT_ACCESSIBILITY_CONSTRAINTS)
        capabilities = [csi_pb2.PluginCapability(service=_Service(type=service)) for service in services]
        if "expansion" in offers:
            way = _Expansion.ONLINE if "expansion_online" in offers else _Expansion.OFFLINE
            capabilities.append(csi_pb2.PluginCapability(volume_expansion=_Expansion(type=way)))
        return csi_pb2.GetPluginCapabilitiesResponse(capabilities=capabilities)

    def Probe(self, request: csi_pb2.ProbeRequest, context: Any) -> csi_pb2.ProbeResponse:
        return csi_pb2.ProbeResponse(ready=wrappers_pb2.BoolValue(value=self.is_ready()))


def own_version() -> str:
    return csi_plugin.__version__
