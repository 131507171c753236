"""``cinderbox serve``: one process with the controller's services, the node's, or both."""

import _thread
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import grpc

from csi_plugin.attachment.programs import search_path
from csi_plugin.instrumentation import tracing
from csi_plugin.persistence.base import InvalidPersistence
from csi_plugin.protocol import csi_pb2_grpc, node_registry_pb2_grpc, operations_pb2_grpc
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.protocol.offers import expansion_offers
from csi_plugin.server import logs, service_info, sockets, system_files
from csi_plugin.server.controller_runtime import ControllerRuntime, deferred
from csi_plugin.server.endpoints import grpc_address
from csi_plugin.server.identity import IdentityService, own_version
from csi_plugin.server.kubelet_registration import KubeletRegistration
from csi_plugin.server.node_runtime import NodeRuntime
from csi_plugin.server.operations import OperationsService, by_thread
from csi_plugin.server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from csi_plugin.server.http_endpoint import HTTPEndpoint
    from csi_plugin.server.metrics import Metrics

LOG = logging.getLogger(__name__)

EXIT_SETTINGS = 2
EXIT_LEADERSHIP_LOST = 3
EXIT_UNFINISHED = 4

_STANDARD_ERROR = 2
_SIGNAL_SECONDS = 0.5
"""Between two looks whether the process shall end."""


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0, or 2 for settings that cannot work.

    Ends the process with 3 when another controller has taken over, and with 4 when operations did not end in time.
    """
    _open_standard_streams()
    logs.configure(log_format=settings.log_format, level=settings.log_level)
    # What starts this process may have a short PATH, or none: Cinder and os-brick need the system's programs.
    os.environ["PATH"] = search_path(os.environ.get("PATH", ""))
    try:
        return _Process(settings).run()
    except (SettingsError, InvalidPersistence, sockets.AddressInUse, ValueError) as error:
        LOG.error("%s", error)
        return EXIT_SETTINGS


def _open_standard_streams() -> None:
    """Those that whoever starts this has closed: what is opened next, a database or a socket, would get their numbers,
    and all that programs and libraries print would go into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", _STANDARD_ERROR)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - as long as the process


class _Process:
    """The server's life: lead, listen, start, run until a signal, drain, stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inflight = InFlight()
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._controller: ControllerRuntime | None = None
        self._node: NodeRuntime | None = None
        self._metrics: Metrics | None = None
        self._http: HTTPEndpoint | None = None
        self._kubelet: KubeletRegistration | None = None
        self._server = self._new_server()
        self._registry: grpc.Server | None = None

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        LOG.info("cinderbox %s starts in mode %s", own_version(), self._settings.mode)
        try:
            if not self._begin():
                return 0
        except OSError as error:  # a folder that is a file, is not ours, or is on a full disk
            raise SettingsError(f"cannot start: {error}") from error
        threading.Thread(target=self._start_parts, name="start", daemon=True).start()
        # Not without a limit: Python acts on signals between two instructions, and one that comes as the wait begins
        # would not end it.
        while not self._stopping.wait(_SIGNAL_SECONDS):
            continue
        drained = self._stop()
        if self._failure is not None:
            raise self._failure
        if not drained:
            # Python would wait for their threads without end.
            logging.shutdown()
            os._exit(EXIT_UNFINISHED)
        return 0

    def _begin(self) -> bool:
        """Up to the open sockets; False when stopped before."""
        if self._settings.system_files:
            system_files.unpack(self._settings.system_files)
        if tracing.is_wanted():
            service = "cinderbox" if self._settings.mode == "all" else f"cinderbox-{self._settings.mode}"
            tracing.start(service=service, version=own_version(), instance=self._settings.node_id)
        self._make_parts()
        self._start_http()
        # A standby opens its socket only when it leads: sidecars beside it wait at their first Probe.
        if self._controller is not None and not self._controller.lead():
            return False
        self._register_services()
        sockets.listen(self._server, self._settings.endpoint, take_over=self._controller is not None)
        if self._controller is not None and self._settings.registry_endpoint:
            self._serve_registry(self._controller)
        self._server.start()
        LOG.info("serving on %s", self._settings.endpoint)
        self._register_with_kubelet()
        return True

    def _on_signal(self, number: int, frame: object) -> None:
        # In a thread of its own: the one that is interrupted may hold the locks of what is set.
        _thread.start_new_thread(self._end, ())

    def _end(self) -> None:
        self._stopping.set()
        if self._controller is not None:
            self._controller.stop_waiting()

    def _make_parts(self) -> None:
        if self._settings.mode != "node":
            self._controller = ControllerRuntime(self._settings, self._inflight, on_lost=_leave)
        if self._settings.mode != "controller":
            self._node = NodeRuntime(self._settings, self._inflight)

    def _new_server(self) -> grpc.Server:
        return sockets.new_server(workers=self._settings.workers, observe=self._observe)

    def _serve_registry(self, controller: ControllerRuntime) -> None:
        """A server of its own: nodes reach it, and are entitled to nothing but the registry."""
        self._registry = self._new_server()
        _add_registry(self._registry, controller)
        sockets.listen_registry(self._registry, self._settings)
        self._registry.start()

    def _observe(self, method: str, code: str, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.observe(method, code, seconds)

    def _start_http(self) -> None:
        """Before this process leads: a standby is alive, too."""
        if self._settings.http_address:
            from csi_plugin.server.http_endpoint import HTTPEndpoint
            from csi_plugin.server.metrics import Metrics

            self._metrics = Metrics(
                self._inflight, node_id=self._settings.node_id, controller=self._controller, node=self._node
            )
            self._http = HTTPEndpoint(self._settings.http_address, is_ready=self._is_ready, metrics=self._metrics)
            self._http.start()

    def _register_with_kubelet(self) -> None:
        settings = self._settings
        if settings.registration_dir is None:
            return
        endpoint = settings.kubelet_endpoint or grpc_address(settings.endpoint).removeprefix("unix:")
        self._kubelet = KubeletRegistration(
            driver_name=settings.driver_name, endpoint=endpoint, directory=settings.registration_dir
        )
        self._kubelet.start()

    def _register_services(self) -> None:
        server, controller = self._server, self._controller
        identity = IdentityService(
            self._settings.driver_name,
            offers=self._offers,
            is_ready=self._is_ready,
        )
        csi_pb2_grpc.add_IdentityServicer_to_server(identity, server)
        operations_pb2_grpc.add_OperationsServicer_to_server(OperationsService(self._inflight), server)
        names = ["csi.v1.Identity", "cinderbox.v1.Operations"]
        if controller is not None:
            csi_pb2_grpc.add_ControllerServicer_to_server(
                deferred(csi_pb2_grpc.ControllerServicer, controller.serving), server
            )
            csi_pb2_grpc.add_GroupControllerServicer_to_server(
                deferred(csi_pb2_grpc.GroupControllerServicer, lambda: controller.serving().group_controller), server
            )
            _add_registry(server, controller)
            names += ["csi.v1.Controller", "csi.v1.GroupController", "cinderbox.v1.NodeRegistry"]
        if self._node is not None:
            csi_pb2_grpc.add_NodeServicer_to_server(self._node.service, server)
            names.append("csi.v1.Node")
        service_info.register(server, names, is_ready=identity.is_ready)

    def _is_ready(self) -> bool:
        """A node is ready without its controller: it can serve what is staged. With both, the node has to be known."""
        if self._controller is None:
            return True
        return self._controller.is_ready() and (self._node is None or self._node.is_registered())

    def _offers(self) -> frozenset[str]:
        """All instances of the plugin answer the same, so a node says what the controller has told it. Where it tells
        nothing, that backends have a topology goes by the node's own, and which make groups is not known."""
        if self._controller is not None:
            return self._controller.offers()
        told = self._node.offers() if self._node is not None else None
        if told is not None:
            return told
        topology = {"snapshot_topology"} if self._settings.node_topology else set()
        return expansion_offers(self._settings.disabled_features) | topology

    def _start_parts(self) -> None:
        try:
            if self._node is not None:
                self._node.start(self._controller)
            if self._controller is not None:
                self._controller.start()
        except SettingsError as error:
            self._failure = error
            self._stopping.set()
        except OSError as error:
            self._failure = SettingsError(f"cannot start: {error}")
            self._stopping.set()
        except Exception as error:
            # This thread's only reader is the main one, which ends the process with it.
            LOG.exception("cannot start")
            self._failure = SettingsError(f"cannot start: {error}")
            self._stopping.set()

    def _stop(self) -> bool:
        """Take no new RPCs, let running operations end, and go. Returns whether they have ended."""
        LOG.info("stopping; %d operations are running", len(by_thread(self._inflight)))
        if self._kubelet is not None:
            self._kubelet.stop()
        servers = [server for server in (self._server, self._registry) if server is not None]
        if self._controller is not None:
            self._controller.begin_to_stop()
        stopped = [server.stop(grace=self._settings.stop_seconds) for server in servers]
        drained = self._inflight.drain(self._settings.stop_seconds)
        if not drained:
            for operation in self._inflight.running():
                LOG.warning("%s is still running after %.0f s", operation.key, operation.age_seconds)
        for server_stopped in stopped:
            server_stopped.wait()
        if self._node is not None:
            self._node.stop()
        if self._controller is not None:
            self._controller.stop(drained=drained)
        if self._http is not None:
            self._http.stop()
        tracing.stop()
        LOG.info("stopped")
        return drained


def _add_registry(server: grpc.Server, controller: ControllerRuntime) -> None:
    registry = deferred(node_registry_pb2_grpc.NodeRegistryServicer, lambda: controller.serving().node_registry)
    node_registry_pb2_grpc.add_NodeRegistryServicer_to_server(registry, server)


def _leave(reason: str) -> None:
    """End at once: what a driver call does from here on, another controller may be doing too."""
    LOG.error("this controller is no longer the active one and ends: %s", reason)
    logging.shutdown()
    os._exit(EXIT_LEADERSHIP_LOST)
