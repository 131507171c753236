"""Tells kubelet that the driver is here: kubelet's plugin registration, version 1, without a registrar beside us."""

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from csi_plugin.protocol import plugin_registration_pb2, plugin_registration_pb2_grpc
from csi_plugin.protocol.backoff import Backoff
from csi_plugin.server import sockets
from csi_plugin.server.endpoints import registration_socket

LOG = logging.getLogger(__name__)

PLUGIN_TYPE = "CSIPlugin"
SUPPORTED_VERSIONS = ("1.0.0",)
"""Kubelet's word for every CSI 1.x."""

_CHECK_SECONDS = 2.0
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 60.0


class KubeletRegistration(plugin_registration_pb2_grpc.RegistrationServicer):
    """A socket in kubelet's registration folder for as long as this runs.

    Kubelet registers a driver when its socket comes and forgets it when the socket goes. A socket that somebody removed
    (kubelet clears the folder at times), or whose registration failed, is recreated.
    """

    def __init__(self, *, driver_name: str, endpoint: str, directory: Path) -> None:
        """``endpoint``: path of the CSI socket as kubelet sees it; ``directory``: its registration folder."""
        self._info = plugin_registration_pb2.PluginInfo(
            type=PLUGIN_TYPE, name=driver_name, endpoint=endpoint, supported_versions=SUPPORTED_VERSIONS
        )
        self._socket = registration_socket(directory, driver_name)
        self._server: grpc.Server | None = None
        self._failed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet-registration", daemon=True)

    def GetInfo(self, request: Any, context: Any) -> plugin_registration_pb2.PluginInfo:
        return self._info

    def NotifyRegistrationStatus(
        self, request: plugin_registration_pb2.RegistrationStatus, context: Any
    ) -> plugin_registration_pb2.RegistrationStatusResponse:
        if request.plugin_registered:
            LOG.info("kubelet has registered %s", self._info.name)
        else:
            LOG.error("kubelet did not register %s: %s", self._info.name, request.error)
            self._failed.set()
        return plugin_registration_pb2.RegistrationStatusResponse()

    def start(self) -> None:
        """Register. Call it when the CSI socket is served: kubelet asks NodeGetInfo at once."""
        self._thread.start()

    def stop(self) -> None:
        """Let kubelet forget the driver."""
        self._stopping.set()
        self._failed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        backoff = Backoff(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
        while not self._stopping.is_set():
            self._failed.clear()
            pause = backoff.next_pause()
            try:
                self._offer()
            except (OSError, sockets.AddressInUse) as error:
                LOG.error("cannot register %s with kubelet, retrying in %.0f s: %s", self._info.name, pause, error)
                self._failed.set()
            lost = self._wait(lambda: not self._socket.exists())
            self._withdraw()
            if lost:
                backoff.reset()
            else:
                self._stopping.wait(pause)

    def _wait(self, is_lost: Callable[[], bool]) -> bool:
        """Wait until the socket is lost (True), or kubelet refuses or stop() is called (False)."""
        while not self._failed.wait(_CHECK_SECONDS):
            if is_lost():
                LOG.info("%s was removed and is recreated", self._socket)
                return True
        return False

    def _offer(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(2, thread_name_prefix="registration"))
        plugin_registration_pb2_grpc.add_RegistrationServicer_to_server(self, self._server)
        sockets.listen(self._server, f"unix://{self._socket}", take_over=True)
        self._server.start()

    def _withdraw(self) -> None:
        if self._server is not None:
            self._server.stop(grace=1).wait()  # removes the socket, too
            self._server = None
        with contextlib.suppress(OSError):  # the folder may be away, or be none
            self._socket.unlink(missing_ok=True)
