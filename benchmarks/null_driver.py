"""A CSI driver that does nothing but mount a tmpfs: what a claim costs when the driver costs nothing.

    python null_driver.py NAME CSI_SOCKET SOCKET_AS_KUBELET_SEES_IT REGISTRATION_DIRECTORY NODE

Controller and node in one process. benchmarks/cluster.py runs it in the image of Cinderbox, whose modules it uses.
"""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from csi_plugin.protocol import csi_pb2, csi_pb2_grpc
from csi_plugin.server.kubelet_registration import KubeletRegistration

Service = csi_pb2.PluginCapability.Service
RPC = csi_pb2.ControllerServiceCapability.RPC


class Identity(csi_pb2_grpc.IdentityServicer):
    def __init__(self, name: str) -> None:
        self._name = name

    def GetPluginInfo(self, request: Any, context: Any) -> csi_pb2.GetPluginInfoResponse:
        return csi_pb2.GetPluginInfoResponse(name=self._name, vendor_version="0")

    def GetPluginCapabilities(self, request: Any, context: Any) -> csi_pb2.GetPluginCapabilitiesResponse:
        service = csi_pb2.PluginCapability(service=Service(type=Service.CONTROLLER_SERVICE))
        return csi_pb2.GetPluginCapabilitiesResponse(capabilities=[service])

    def Probe(self, request: Any, context: Any) -> csi_pb2.ProbeResponse:
        return csi_pb2.ProbeResponse()


class Controller(csi_pb2_grpc.ControllerServicer):
    def ControllerGetCapabilities(self, request: Any, context: Any) -> csi_pb2.ControllerGetCapabilitiesResponse:
        return csi_pb2.ControllerGetCapabilitiesResponse(
            capabilities=[
                csi_pb2.ControllerServiceCapability(rpc=RPC(type=kind))
                for kind in (RPC.CREATE_DELETE_VOLUME, RPC.PUBLISH_UNPUBLISH_VOLUME)
            ]
        )

    def CreateVolume(self, request: csi_pb2.CreateVolumeRequest, context: Any) -> csi_pb2.CreateVolumeResponse:
        size = request.capacity_range.required_bytes
        return csi_pb2.CreateVolumeResponse(volume=csi_pb2.Volume(volume_id=request.name, capacity_bytes=size))

    def DeleteVolume(self, request: Any, context: Any) -> csi_pb2.DeleteVolumeResponse:
        return csi_pb2.DeleteVolumeResponse()

    def ControllerPublishVolume(self, request: Any, context: Any) -> csi_pb2.ControllerPublishVolumeResponse:
        return csi_pb2.ControllerPublishVolumeResponse()

    def ControllerUnpublishVolume(self, request: Any, context: Any) -> csi_pb2.ControllerUnpublishVolumeResponse:
        return csi_pb2.ControllerUnpublishVolumeResponse()


class Node(csi_pb2_grpc.NodeServicer):
    def __init__(self, node: str) -> None:
        self._node = node

    def NodeGetInfo(self, request: Any, context: Any) -> csi_pb2.NodeGetInfoResponse:
        return csi_pb2.NodeGetInfoResponse(node_id=self._node)

    def NodeGetCapabilities(self, request: Any, context: Any) -> csi_pb2.NodeGetCapabilitiesResponse:
        return csi_pb2.NodeGetCapabilitiesResponse()

    def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, context: Any
    ) -> csi_pb2.NodePublishVolumeResponse:
        target = Path(request.target_path)
        target.mkdir(parents=True, exist_ok=True)
        if not target.is_mount():
            subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)
        return csi_pb2.NodePublishVolumeResponse()

    def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: Any
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        target = Path(request.target_path)
        if target.is_mount():
            subprocess.run(["umount", target], check=True)
        if target.exists():
            target.rmdir()
        return csi_pb2.NodeUnpublishVolumeResponse()


def main() -> None:
    name, socket, kubelet_socket, registration, node = sys.argv[1:]
    Path(socket).unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(32))
    csi_pb2_grpc.add_IdentityServicer_to_server(Identity(name), server)
    csi_pb2_grpc.add_ControllerServicer_to_server(Controller(), server)
    csi_pb2_grpc.add_NodeServicer_to_server(Node(node), server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    KubeletRegistration(driver_name=name, endpoint=kubelet_socket, directory=Path(registration)).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
