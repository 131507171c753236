"""What a collector receives from a real server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from csi_plugin.instrumentation import tracing
from csi_plugin.protocol import csi_pb2
from tests.support.csi import GIB, MOUNT
from tests.support.life import Life
from tests.support.serving import Served, serving
from tests.support.trace_collector import Collector, attributes

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture
def served(tmp_path: Path, collector: Collector) -> Iterator[Served]:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with serving(tmp_path, environment=environment) as served:
        yield served


@pytest.mark.root
def test_where_a_creation_spends_its_time(served: Served, collector: Collector) -> None:
    request = csi_pb2.CreateVolumeRequest(
        name="pvc-1",
        capacity_range=csi_pb2.CapacityRange(required_bytes=GIB),
        volume_capabilities=[MOUNT],
        secrets={"password": "open sesame"},
    )
    caller = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
    served.controller.CreateVolume(request, metadata=caller)
    span = collector.root("Controller/CreateVolume")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.kind == Span.SPAN_KIND_SERVER
    assert attributes(span) == {
        "rpc.system": "grpc",
        "rpc.service": "csi.v1.Controller",
        "rpc.method": "CreateVolume",
        "rpc.grpc.status_code": 0,
        "csi.name": "pvc-1",
    }
    steps = [step for step in collector.children(span) if not step.startswith("command.")]
    # The first write of all is the namespace of the ids.
    assert steps == ["metadata.create", "metadata.create", "driver.create_volume", "metadata.update"]
    writes = [attributes(step)["kind"] for step in collector.spans if step.name.startswith("metadata.")]
    assert writes == ["key_value", "volume", "volume"]
    driver = collector.find("driver.create_volume")
    assert driver is not None
    assert attributes(driver) == {"backend": "loop"}
    assert collector.resources[0]["service.name"] == "cinderbox"
    assert collector.find("grpc.health.v1.Health/Check") is collector.find("csi.v1.Identity/Probe") is None
    assert "open sesame" not in str(collector.spans)


@pytest.mark.root
def test_what_a_node_does(served: Served, collector: Collector) -> None:
    life = Life(served)
    life.run("create", "publish", "stage")
    span = collector.root("Node/NodeStageVolume")
    steps = collector.children(span)
    assert "attachment.attach" in steps
    assert "command.mkfs.xfs" in steps
    assert "command.mount" in steps
    life.run("unstage", "unpublish", "delete")
    assert collector.children(collector.root("Controller/ControllerUnpublishVolume"))[-1] == "metadata.delete"


@pytest.mark.root
def test_a_refused_call(served: Served, collector: Collector) -> None:
    with pytest.raises(grpc.RpcError):
        served.controller.CreateVolume(csi_pb2.CreateVolumeRequest(name="pvc-1"))
    span = collector.root("Controller/CreateVolume")
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert span.status.message.startswith("INVALID_ARGUMENT: volume_capabilities")
    assert attributes(span)["rpc.grpc.status_code"] == 3


@pytest.mark.root
def test_the_last_spans_are_sent_at_the_end(tmp_path: Path, collector: Collector) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    with serving(tmp_path, environment=environment) as served:
        served.controller.ListVolumes(csi_pb2.ListVolumesRequest())
        assert served.stop() == 0
    assert collector.find("csi.v1.Controller/ListVolumes") is not None


@pytest.mark.root
def test_a_collector_that_is_away_costs_nothing(tmp_path: Path, collector: Collector) -> None:
    collector.stop()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with serving(tmp_path, environment=environment) as served:
        served.controller.ListVolumes(csi_pb2.ListVolumesRequest(), timeout=30)
        served.process.send_signal(15)  # type: ignore[union-attr]
        assert served.wait_for_exit(timeout=60) == 0


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0", "OTEL_BSP_SCHEDULE_DELAY": "200"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "OTEL_EXPORTER_OTLP_COMPRESSION"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(tracing.TracingUnavailable) as caught:
        tracing.start(service="tests", version="1", instance="n")
    assert str(caught.value).startswith(f"{named}: ")


def test_without_a_collector_nothing_is_imported() -> None:
    program = (
        "import sys, csi_plugin.server.serve, csi_plugin.node.service;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
