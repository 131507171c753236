"""A CreateVolumeRequest, checked and read once."""

from typing import Any

import pytest

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.requests.labels import CLAIM, make_labels
from csi_plugin.controller.requests.volume_request import ContentSource, VolumeRequest, read_volume_request
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError
from tests.support.csi import Mode, block, create_request, from_snapshot, from_volume, mount

CONFIGURATION = ControllerConfiguration(cluster_name="prod")


def read(name: str = "pvc-1", **fields: Any) -> VolumeRequest:
    return read_volume_request(create_request(name, **fields), CONFIGURATION)


def test_sources() -> None:
    assert read().source is None
    assert read(volume_content_source=from_volume("v")).source == ContentSource("volume", "v")
    source = read(volume_content_source=from_snapshot("s")).source
    assert source == ContentSource("snapshot", "s")
    assert source.resource == "snapshot/s"
    assert source.field == "volume_content_source.snapshot.snapshot_id"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (csi_pb2.VolumeContentSource(), "one of snapshot and volume"),
        (from_volume(""), "volume_content_source.volume.volume_id is required"),
        (from_snapshot(""), "volume_content_source.snapshot.snapshot_id is required"),
    ],
)
def test_sources_that_name_nothing(source: csi_pb2.VolumeContentSource, words: str) -> None:
    with pytest.raises(RpcError, match=words):
        read(volume_content_source=source)


@pytest.mark.parametrize(("feature", "source"), [("clone", from_volume("v")), ("snapshot", from_snapshot("s"))])
def test_sources_that_are_disabled(feature: str, source: csi_pb2.VolumeContentSource) -> None:
    configuration = ControllerConfiguration(disabled_features=frozenset({feature}))
    with pytest.raises(RpcError, match=f"disabled_features: {feature}"):
        read_volume_request(create_request("pvc-1", volume_content_source=source), configuration)


def test_several_nodes_may_not_write_to_a_filesystem() -> None:
    assert read(volume_capabilities=[block(Mode.MULTI_NODE_MULTI_WRITER)]).needs_multiattach
    assert read(volume_capabilities=[mount(Mode.MULTI_NODE_READER_ONLY)]).needs_multiattach
    assert not read().needs_multiattach
    with pytest.raises(RpcError, match="needs access type block"):
        read(volume_capabilities=[mount(Mode.MULTI_NODE_MULTI_WRITER)])


def test_what_a_repeat_must_have_in_common() -> None:
    first = read(parameters={"xtra_a": "1", "csi.storage.k8s.io/pvc/name": "data"})

    assert first.whole() == read(parameters={"xtra_a": "1"}).whole()
    assert first.normalized == read(size=2, parameters={"xtra_a": "1"}).normalized
    assert first.whole() != read(size=2, parameters={"xtra_a": "1"}).whole()
    assert first.normalized != read(parameters={"xtra_a": "2"}).normalized
    assert first.normalized["source"] == {}
    assert read(volume_content_source=from_volume("v")).normalized["source"] == {"volume": "v"}


def test_secrets_are_not_read() -> None:
    assert "hunter2" not in repr(read(secrets={"key": "hunter2"}))


def test_labels_name_cluster_and_claim_and_fit_cinder() -> None:
    owner = dict(zip(CLAIM, ("shop", "data"), strict=True))

    labels = make_labels(owner, CONFIGURATION, csi_name="pvc-1", owner=CLAIM)

    assert labels.name == "prod/shop/data"
    assert labels.description == "pvc-1 of csi.cinderbox.io for shop/data in cluster prod"
    assert labels.metadata["cinderbox.io/name"] == "pvc-1"
    assert len(make_labels({}, CONFIGURATION, csi_name="x" * 300, owner=CLAIM).name) == 255
