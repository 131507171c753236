"""Registration with kubelet, by a client that does what kubelet does."""

import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol import plugin_registration_pb2, plugin_registration_pb2_grpc
from tests.support.polling import wait_until
from tests.support.serving import Served

pytestmark = pytest.mark.root


@pytest.fixture
def registry() -> Iterator[Path]:
    # Unix sockets have short paths.
    with tempfile.TemporaryDirectory(prefix="cbx-") as folder:
        yield Path(folder)


@pytest.fixture
def server(registry: Path, tmp_path: Path) -> Iterator[Served]:
    environment = {
        "CINDERBOX_REGISTRATION_DIR": str(registry),
        "CINDERBOX_KUBELET_ENDPOINT": "/var/lib/kubelet/plugins/csi.cinderbox.io/csi.sock",
    }
    served = Served(tmp_path, environment=environment)
    yield served
    served.close()


def plugin_socket(registry: Path) -> Path:
    return registry / "csi.cinderbox.io-reg.sock"


def made_at(path: Path) -> int:
    """When a socket was made; 0 for none. (The number of its inode may be that of the one before.)"""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def asked(path: Path) -> plugin_registration_pb2.PluginInfo:
    """What kubelet is told when it finds the socket."""
    with grpc.insecure_channel(f"unix://{path}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = plugin_registration_pb2_grpc.RegistrationStub(channel)
        info: plugin_registration_pb2.PluginInfo = stub.GetInfo(
            plugin_registration_pb2.InfoRequest(), timeout=30, wait_for_ready=True
        )
        return info


def told(path: Path, *, registered: bool, error: str = "") -> None:
    """Kubelet says what became of it."""
    with grpc.insecure_channel(f"unix://{path}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        status = plugin_registration_pb2.RegistrationStatus(plugin_registered=registered, error=error)
        plugin_registration_pb2_grpc.RegistrationStub(channel).NotifyRegistrationStatus(status, timeout=30)


def test_kubelet_finds_the_driver(server: Served, registry: Path) -> None:
    server.start()
    path = plugin_socket(registry)
    wait_until(path.exists, server.log_text)
    info = asked(path)
    assert (info.type, info.name, list(info.supported_versions)) == ("CSIPlugin", "csi.cinderbox.io", ["1.0.0"])
    assert info.endpoint == "/var/lib/kubelet/plugins/csi.cinderbox.io/csi.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told(path, registered=True)
    wait_until(lambda: "kubelet has registered csi.cinderbox.io" in server.log_text(), server.log_text)


def test_the_socket_goes_with_the_driver(server: Served, registry: Path) -> None:
    server.start()
    wait_until(plugin_socket(registry).exists, server.log_text)
    assert server.stop() == 0
    assert list(registry.iterdir()) == []


def test_a_socket_of_a_dead_process_is_replaced(server: Served, registry: Path) -> None:
    path = plugin_socket(registry)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    old = made_at(path)
    server.start()
    wait_until(lambda: made_at(path) not in (0, old), server.log_text)
    assert asked(path).name == "csi.cinderbox.io"


def test_a_socket_that_was_removed_comes_back(server: Served, registry: Path) -> None:
    """A kubelet that starts clears its folder."""
    server.start()
    path = plugin_socket(registry)
    wait_until(path.exists, server.log_text)
    path.unlink()
    wait_until(path.exists, server.log_text)
    assert asked(path).name == "csi.cinderbox.io"


def test_a_refused_registration_is_tried_again(server: Served, registry: Path) -> None:
    server.start()
    path = plugin_socket(registry)
    wait_until(path.exists, server.log_text)
    old = made_at(path)
    asked(path)
    told(path, registered=False, error="no such driver here")
    wait_until(lambda: "no such driver here" in server.log_text(), server.log_text)
    wait_until(lambda: made_at(path) not in (0, old), server.log_text)
    assert asked(path).name == "csi.cinderbox.io"
    assert server.is_running()


def test_a_controller_has_nothing_to_register(registry: Path, tmp_path: Path) -> None:
    served = Served(tmp_path, mode="controller", environment={"CINDERBOX_REGISTRATION_DIR": str(registry)})
    try:
        served.start(wait=False)
        assert served.wait_for_exit() == 2
        assert "registration_dir" in served.log_text()
    finally:
        served.close()


def test_a_folder_that_is_none_is_waited_for(registry: Path, tmp_path: Path) -> None:
    """A mount that comes later, say."""
    folder = registry / "folder"
    folder.write_text("no folder")
    served = Served(tmp_path, environment={"CINDERBOX_REGISTRATION_DIR": str(folder)})
    try:
        served.start()
        wait_until(lambda: "cannot register" in served.log_text(), served.log_text)
        folder.unlink()
        folder.mkdir()
        assert asked(plugin_socket(folder)).name == "csi.cinderbox.io"
        assert served.stop() == 0
    finally:
        served.close()
