"""What Cinderbox adds to the time of Cinder's drivers and of os-brick, on the storage lab's backends.

In the guest: ``scripts/storage_lab run .venv/bin/python -m benchmarks.storage_lab``. A call's own time is what its
trace shows outside of the driver; for staging, the limit is os-brick called in this process, which is warm. Emulation
makes Python some twenty times slower and the storage less so: the shares are an upper bound.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.polling import wait_until
from tests.support.trace_collector import Collector

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Cinder's target runs cinder-rtstool by its name.
os.environ["PATH"] = f"{sys.prefix}/bin:{os.environ['PATH']}"

from tests.lab.backends import BACKENDS, LabBackend, python_path
from tests.lab.servers import LabServer
from tests.lab.volumes import LabClaim

PARTS = {
    "create": ("Controller/CreateVolume",),
    "attach": ("Controller/ControllerPublishVolume", "Node/NodeStageVolume", "Node/NodePublishVolume"),
    "detach": ("Node/NodeUnpublishVolume", "Node/NodeUnstageVolume", "Controller/ControllerUnpublishVolume"),
}
NAMES = ("iscsi", "nvme", "nfs", "rbd")
Seconds = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=5, help="volumes of each backend")
    arguments = parser.parse_args()
    backends = [backend for backend in BACKENDS if backend.name in NAMES]
    folder = Path(tempfile.mkdtemp())
    collector = Collector()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    server = LabServer(folder, backends, **environment).start()
    calls: dict[str, Seconds] = {backend.name: defaultdict(list) for backend in backends}
    try:
        for backend in backends:
            for number in range(arguments.volumes):
                live(server, backend, folder / f"{backend.name}-{number}")
                read_spans(collector, calls[backend.name])
    finally:
        server.close()
        collector.stop()
    bare = {backend.name: bare_attachments(backend, arguments.volumes) for backend in backends}
    report(calls, bare)


def live(server: LabServer, backend: LabBackend, folder: Path) -> None:
    claim = LabClaim(server, backend, folder, name=folder.name, block=True)
    claim.use()
    claim.remove()


def read_spans(collector: Collector, seconds: Seconds) -> None:
    """Note how long each call took and how long its driver did, and forget the spans."""
    wait_until(lambda: collector.find("csi.v1.Controller/DeleteVolume") is not None, lambda: "no span of a deletion")
    spans = list(collector.spans)
    collector.spans.clear()
    for method in (method for methods in PARTS.values() for method in methods):
        (root,) = [span for span in spans if span.name == f"csi.v1.{method}"]
        in_driver = [span for span in spans if span.trace_id == root.trace_id and span.name.startswith("driver.")]
        seconds[method].append(length(root))
        seconds[f"{method} driver"].append(sum(map(length, in_driver)))


def length(span: Any) -> float:
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def bare_attachments(backend: LabBackend, volumes: int) -> Seconds:
    """How long os-brick takes to attach and to detach a volume, in this process."""
    import csi_plugin
    from csi_plugin.attachment import connector_properties, devices

    sys.path[:0] = [path for path in python_path() if path not in sys.path]
    with suppress(Exception):  # it is set up once for all backends
        csi_plugin.setup(file_locks_path=tempfile.mkdtemp())
    settings = {name: value for name, value in backend.settings.items() if name not in ("name", "driver")}
    library = csi_plugin.Backend(volume_backend_name=backend.name, volume_driver=backend.driver, **settings)
    seconds: Seconds = defaultdict(list)
    for _ in range(volumes):
        volume = library.create_volume(1)
        connection = volume.connect(connector_properties())
        information = connection.conn_info
        device = timed(seconds["attach"], devices.attach, information)
        timed(seconds["detach"], devices.detach, information, device)
        connection.disconnect()
        volume.delete()
    library.close()
    return seconds


def timed(seconds: list[float], action: Callable[..., Any], *arguments: Any) -> Any:
    began = time.monotonic()
    result = action(*arguments)
    seconds.append(time.monotonic() - began)
    return result


def report(calls: dict[str, Seconds], bare: dict[str, Seconds]) -> None:
    print(f"{'median, s':<20}{'all':>8}{'driver':>8}{'os-brick':>10}{'added':>8}{'ratio':>8}")
    for name, seconds in calls.items():
        for part, methods in PARTS.items():
            whole = sum(statistics.median(seconds[method]) for method in methods)
            driver = sum(statistics.median(seconds[f"{method} driver"]) for method in methods)
            brick = statistics.median(bare[name][part]) if part in bare[name] else 0.0
            added = whole - driver - brick
            ratio = whole / (driver + brick)
            print(f"{name + ' ' + part:<20}{whole:>8.2f}{driver:>8.2f}{brick:>10.2f}{added:>8.2f}{ratio:>7.2f}x")


if __name__ == "__main__":
    main()
