"""What the API server and etcd would not keep, on real ones: fields that its definitions lack, and large records."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError, UnstorableText
from csi_plugin.persistence.crd import CRDPersistence, cinder_node, sizes
from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.crd.kinds import GROUP, VERSION
from csi_plugin.persistence.records import (
    PUBLIC_KEY,
    RENEWED,
    ConnectionRecord,
    Intent,
    KeyValueRecord,
    NodeRecord,
    VolumeRecord,
)
from csi_plugin.persistence.testing import new_id
from tests.support.kubernetes_api import DEFINITIONS, KubernetesAPI
from tests.support.polling import wait_until

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def older_definitions(kubernetes: KubernetesAPI, make_crd: Callable[[], CRDPersistence]) -> Iterator[CRDPersistence]:
    """A store that was opened before the definitions of volumes and backends became older ones, as no program does."""
    store = make_crd()
    store.find(VolumeRecord)
    for name, path in (
        ("cindervolumes", "/spec/properties/providerLocation"),
        ("cindervolumes", "/spec/properties/intent/properties/context"),
        ("cinderbackends", "/spec/properties/suspend"),
    ):
        place = "/spec/versions/0/schema/openAPIV3Schema/properties" + path
        patch = json.dumps([{"op": "remove", "path": place}])
        kubernetes.kubectl("patch", "crd", f"{name}.cinderbox.io", "--type=json", "-p", patch)
    wait_until(lambda: not is_opened(make_crd), lambda: "the definitions are as before")
    yield store
    store.close()
    kubernetes.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(DEFINITIONS))
    wait_until(lambda: is_opened(make_crd), lambda: "the definitions are as before")


def is_opened(make_crd: Callable[[], CRDPersistence]) -> bool:
    try:
        make_crd().close()
    except InvalidPersistence:
        return False
    return True


def test_fields_that_older_definitions_lack_are_named(
    older_definitions: CRDPersistence, make_crd: Callable[[], CRDPersistence]
) -> None:
    with pytest.raises(InvalidPersistence) as refused:
        make_crd()
    for path in (
        "CinderVolume.spec.providerLocation",
        "CinderVolume.spec.intent.context",
        "CinderBackend.spec.suspend",
    ):
        assert path in str(refused.value)
    assert "kubectl apply" in str(refused.value)
    volume = VolumeRecord(id=new_id(), provider_location="portal 1")
    with pytest.raises(PersistenceError, match=r"dropped: spec\.providerLocation"):
        older_definitions.create(volume)
    wait_until(lambda: older_definitions.get(VolumeRecord, volume.id) is None, lambda: "a part of it stays")


def test_a_record_that_is_too_large_for_etcd_is_refused_with_its_size(
    make_crd: Callable[[], CRDPersistence],
) -> None:
    store = make_crd()
    with pytest.raises(UnstorableText, match=r"1,6\d\d,\d\d\d bytes, and a custom resource holds 1,500,000"):
        store.create(KeyValueRecord(id=new_id(), value="x" * 1_600_000))
    # What is let through is stored: a long text, and as many small fields, of which the API server makes most.
    for record in (KeyValueRecord(id=new_id(), value="x" * (sizes.MOST_BYTES - 2_000)), many_fields()):
        created = store.create(record)
        with pytest.raises(UnstorableText):
            store.update(grown(created))
        assert store.get(type(record), record.id) == created
        store.delete(created)
    store.close()


def test_a_node_is_told_how_much_too_large_its_resealed_connections_are(
    kubernetes: KubernetesAPI, make_crd: Callable[[], CRDPersistence]
) -> None:
    """As with many volumes on a node that has lost its key: those that fit are there."""
    store = make_crd()
    store.use_connection_sealer(lambda node_id, volume_id: base64.b64encode(b"x" * 180_000).decode())
    volume_ids = sorted(new_id() for _ in range(5))
    for volume_id in volume_ids:
        store.create(ConnectionRecord(id=volume_id, volume_id=volume_id, node_id="node-1", attach_status="attached"))
    store.create(NodeRecord(id="node-1", public_key="bmV3"))
    api = ResourceAPI(GROUP, VERSION, namespace=store.namespace, kubeconfig=str(kubernetes.kubeconfig))
    try:
        for volume_id in volume_ids[:4]:
            assert cinder_node.connection(api, node_id="node-1", volume_id=volume_id)
        with pytest.raises(PersistenceError, match=r"have 1,2\d\d,\d\d\d bytes, and 1,000,000 fit .* of 1 volumes"):
            cinder_node.connection(api, node_id="node-1", volume_id=volume_ids[4])
    finally:
        api.close()
        store.close()


def test_a_node_that_has_changed_waits_until_its_volumes_are_exported_anew(
    kubernetes: KubernetesAPI, make_crd: Callable[[], CRDPersistence]
) -> None:
    """Its publish_context tells of what it was, though its key is the same."""
    store, renewed, box = make_crd(), threading.Event(), base64.b64encode(b"box").decode()
    store.use_connection_sealer(lambda node_id, volume_id: box)
    store.use_connection_renewer(lambda node_id, volume_id: not renewed.is_set())
    connector = {"ip": "192.0.2.1", PUBLIC_KEY: "a2V5"}
    connection = store.create(
        ConnectionRecord(
            id=new_id(), volume_id=new_id(), node_id="node-1", attach_status="attached", connector=connector
        )
    )
    node = store.create(NodeRecord(id="node-1", public_key="a2V5", connector={"ip": "192.0.2.1"}))

    def status() -> Any:
        return kubernetes.get("cnode", "node-1", "-n", store.namespace).get("status", {})

    wait_until(lambda: status().get("publicKey") == "a2V5", status)
    store.update(replace(node, connector={"ip": "192.0.2.2"}))
    wait_until(lambda: "lastSeen" in status() and "publicKey" not in status(), status)
    renewed.set()
    store.update(replace(connection, connector={"ip": "192.0.2.2", PUBLIC_KEY: "a2V5", RENEWED: True}))
    wait_until(lambda: status().get("publicKey") == "a2V5", status)
    (entry,) = status()["connections"]
    assert (entry["volumeId"], entry["sealed"]) == (connection.volume_id, box)
    store.close()


def many_fields() -> VolumeRecord:
    metadata = {f"key-{number:06}": "v" for number in range(31_000)}
    return VolumeRecord(id=new_id(), metadata=metadata, intent=Intent(name="pvc-1"))


def grown(record: KeyValueRecord | VolumeRecord) -> KeyValueRecord | VolumeRecord:
    if isinstance(record, KeyValueRecord):
        return replace(record, value="x" * sizes.MOST_BYTES)
    return replace(record, metadata=record.metadata | {f"more-{number:06}": "v" for number in range(20_000)})
