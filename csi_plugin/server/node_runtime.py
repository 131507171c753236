"""The node's side of a server: its service, and its registration at the controller."""

from collections.abc import Callable

import grpc

from csi_plugin.node import host_programs
from csi_plugin.node.cinder_node_client import CinderNodeClient
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.node.registration import Registration, Registry, RemoteRegistry
from csi_plugin.node.service import NodeService
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.protocol.node_identity import NodeIdentity
from csi_plugin.server.controller_runtime import ControllerRuntime
from csi_plugin.server.endpoints import grpc_address
from csi_plugin.server.installation import settle_driver_name_of_node
from csi_plugin.server.registry_certificates import RegistryCertificates
from csi_plugin.server.settings import Settings
from csi_plugin.topology import everywhere


class _LocalRegistry:
    """The registry of this process's controller. It may still be loading Cinder while the node learns who it is."""

    tells_publications = True

    def __init__(self, controller: ControllerRuntime) -> None:
        self._controller = controller

    def register(self, identity: NodeIdentity) -> None:
        self._controller.wait_until_serving().node_registry.register(identity)

    def connection(self, node_id: str, volume_id: str) -> bytes:
        return self._controller.serving().node_registry.connection(node_id, volume_id)

    def published(self, node_id: str) -> list[str] | None:
        return None

    def record_filesystem(self, node_id: str, volume_id: str, filesystem: str) -> None:
        self._controller.serving().node_registry.record_filesystem(node_id, volume_id)


class NodeRuntime:
    """Everything behind the node's service. Light: neither Cinder nor os-brick is loaded."""

    def __init__(self, settings: Settings, inflight: InFlight) -> None:
        self._settings = settings
        self._registration: Registration | None = None
        configuration = NodeConfiguration(
            node_id=settings.node_id,
            state_dir=settings.state_dir / "node",
            locks_dir=settings.locks_path,
            topology=dict(settings.node_topology) or everywhere(settings.driver_name),
            max_volumes=settings.max_volumes,
            default_filesystem=settings.default_filesystem,
            oldest_kernel=settings.oldest_kernel,
            multipath=settings.request_multipath,
            storage_network_ip=settings.storage_network_ip,
            root_helper=settings.root_helper,
            local_folders=None if settings.local_folders is None else tuple(settings.local_folders),
            storage_networks=None if settings.storage_networks is None else tuple(settings.storage_networks),
            cluster_networks=tuple(settings.cluster_networks),
            reconnect_interval_seconds=settings.reconnect_interval_seconds,
            trim_interval_hours=settings.trim_interval_hours,
        )
        settle_driver_name_of_node(configuration.state_dir, settings.driver_name, volumes_dir=configuration.volumes_dir)
        self.service = NodeService(configuration, inflight)

    def start(self, controller: ControllerRuntime | None) -> None:
        """Register at the controller of this process, at the registry endpoint, or in a custom resource, and look after
        what is staged."""
        host_programs.use(self._settings.host_programs, folder=self._settings.state_dir / "node" / "programs")
        self._registration = self.service.register_with(self._registry(controller))
        self.service.start()

    def _registry(self, controller: ControllerRuntime | None) -> Registry:
        if controller is not None:
            return _LocalRegistry(controller)
        if self._settings.registry_endpoint is not None:
            return RemoteRegistry(self._channels())
        where = self._settings.persistence
        return CinderNodeClient(namespace=where.get("namespace"), kubeconfig=where.get("kubeconfig"))

    def is_registered(self) -> bool:
        """Whether the controller has known this node since this process started."""
        return self._registration is not None and self._registration.registered.is_set()

    def offers(self) -> frozenset[str] | None:
        """What the plugin offers, as the controller has told; None while that is not known."""
        return self._registration.offers if self._registration is not None else None

    def stop(self) -> None:
        if self._registration is not None:
            self._registration.stop()
        self.service.stop()

    def _channels(self) -> Callable[[], grpc.Channel]:
        settings = self._settings
        assert settings.registry_endpoint is not None
        address = grpc_address(settings.registry_endpoint)
        if not (settings.registry_tls_ca and settings.registry_tls_certificate and settings.registry_tls_key):
            channel = grpc.insecure_channel(address)
            return lambda: channel
        certificates = RegistryCertificates(settings)
        return lambda: certificates.channel(address)
