"""Secrets in every place that has some, found nowhere that anybody else looks."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.csi import capability, create_request
from tests.support.network import free_ports
from tests.support.serving import Served, serving
from tests.support.trace_collector import Collector

PLANTED = b"planted"
SEALING_KEY = base64.b64encode(b"planted-sealing-key-of-32-bytes!").decode()
FLAGS = ("password=planted in a flag",)

pytestmark = pytest.mark.root


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


def backend(**more: object) -> dict[str, object]:
    return {
        "talkative_phrase": "planted$phrase'1",
        "talkative_key": 'planted/key"2',
        "secret_options": ["talkative_key"],
        "talkative_devices": [{"backend_id": "r", "san_password": "planted,nested"}],
        **more,
    }


def errors_of(served: Served, volume: csi_pb2.Volume) -> list[str]:
    """What callers are told: by a driver, and by checks that refuse what they quote."""
    refused = capability("xfs", flags=FLAGS)
    requests = [
        (served.controller.CreateVolume, create_request("fail", secrets={"password": "planted-in-create"})),
        (served.controller.CreateVolume, create_request("x", parameters={"unknown": "y"}, secrets={"a": "planted-a"})),
        (
            served.node.NodeStageVolume,
            csi_pb2.NodeStageVolumeRequest(
                volume_id=volume.volume_id,
                staging_target_path=str(served.folder / "staging"),
                volume_capability=refused,
                publish_context={"connection": "planted-in-the-context"},
                secrets={"passphrase": "planted-passphrase"},
            ),
        ),
        (
            served.controller.ControllerUnpublishVolume,
            csi_pb2.ControllerUnpublishVolumeRequest(
                volume_id=volume.volume_id, node_id="test-node", secrets={"chap": "planted-in-unpublish"}
            ),
        ),
    ]
    told = []
    for method, request in requests:
        with pytest.raises(grpc.RpcError) as caught:
            method(request, timeout=60)
        told.append(str(caught.value))
    return told


def command_lines(process: int) -> Iterator[bytes]:
    """Of a process and of all that it has started. Threads and children may end meanwhile."""
    with suppress(FileNotFoundError, ProcessLookupError):
        yield Path(f"/proc/{process}/cmdline").read_bytes()
    for thread in Path(f"/proc/{process}/task").glob("*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in (thread / "children").read_text().split():
                yield from command_lines(int(child))


def test_no_secret_is_found_anywhere(tmp_path: Path, collector: Collector) -> None:
    keys = tmp_path / "keys"
    keys.write_text(SEALING_KEY)
    (port,) = free_ports(1)
    environment = {
        "CINDERBOX_SEALING_KEYS_FILE": str(keys),
        "CINDERBOX_HTTP_ADDRESS": f"127.0.0.1:{port}",
        "CINDERBOX_CINDER_OPTIONS": '{"ssh_hosts_key_file": "/dev/null", "database.connection": "mysql://u:planted/3@h"}',
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    driver = "tests.server.talkative_driver.TalkativeDriver"
    with serving(tmp_path, driver=driver, backend=backend(), environment=environment) as served:
        volume = served.controller.CreateVolume(
            create_request("refuse", secrets={"password": "planted-in-create"}), timeout=60
        ).volume
        published = served.controller.ControllerPublishVolume(
            csi_pb2.ControllerPublishVolumeRequest(
                volume_id=volume.volume_id,
                node_id="test-node",
                volume_capability=capability("ext4"),
                secrets={"chap_password": "planted-in-publish"},
            ),
            timeout=60,
        )
        (tmp_path / "staging").mkdir()
        staged = {"volume_id": volume.volume_id, "staging_target_path": str(tmp_path / "staging")}
        served.node.NodeStageVolume(
            csi_pb2.NodeStageVolumeRequest(
                volume_capability=capability("ext4"),
                publish_context=published.publish_context,
                secrets={"passphrase": "planted-in-stage"},
                **staged,
            ),
            timeout=60,
        )
        assert served.process is not None
        found = {
            "processes": b"\0".join(command_lines(served.process.pid)),
            "shown": served.command("volumes", "show", volume.volume_id).encode(),
        }
        served.node.NodeUnstageVolume(csi_pb2.NodeUnstageVolumeRequest(**staged), timeout=60)
        found["errors"] = "\n".join(errors_of(served, volume)).encode()
        found["metrics"] = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read()
        for command in (["config"], ["volumes", "list"], ["volumes", "orphans"], ["operations", "-o", "json"]):
            found[" ".join(command)] = served.command(*command).encode()
        served.stop()
        found["traces"] = b"".join(span.SerializeToString() for span in collector.spans)
        found["log"] = served.log.read_bytes()
        for folder in (served.state, served.database.parent):
            for file in folder.rglob("*"):
                if file.is_file() and file != keys and served.volumes not in file.parents:
                    found[str(file)] = file.read_bytes()
    assert b"I know" in found["log"]
    assert b"***" in found["errors"]
    assert json.loads(found["operations -o json"]) == []
    assert found["traces"]
    places = {place: data[data.find(PLANTED) - 200 :][:300] for place, data in found.items() if PLANTED in data}
    assert not places
    encoded = SEALING_KEY.encode()
    assert not [place for place, data in found.items() if encoded in data]
