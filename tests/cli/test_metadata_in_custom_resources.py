"""Metadata on its way to custom resources and back, and its sealing keys there, while a volume is in use."""

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.crd import CRDPersistence
from csi_plugin.persistence.dbms import DBPersistence
from csi_plugin.persistence.records import Intent, KeyValueRecord, Phase, VolumeRecord
from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.life import Life
from tests.support.polling import wait_until
from tests.support.serving import Served

KINDS = ("cvol", "csnap", "cconn", "ckv", "cgrp", "cgsnap", "cnode")
OTHERS = 100
"""Volumes that are only records, so that a copy takes a while."""
_NOW = "2026-11-30T12:00:00Z"


@pytest.fixture
def namespace(kubernetes: KubernetesAPI) -> str:
    return kubernetes.new_namespace()


@pytest.fixture
def resources(kubernetes: KubernetesAPI, namespace: str) -> dict[str, Any]:
    return {"storage": "crd", "namespace": namespace, "kubeconfig": str(kubernetes.kubeconfig)}


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def make(**arguments: Any) -> Served:
        made.append(Served(tmp_path, **arguments))
        return made[-1]

    yield make
    for served in made:
        served.close()


def add_others(database: Path) -> None:
    store = DBPersistence(f"sqlite:///{database}")
    for number in range(OTHERS):
        intent = Intent(name=f"other-{number}", phase=Phase.READY)
        store.create(VolumeRecord(id=str(uuid.uuid4()), host="host@other#pool", status="available", intent=intent))
    store.create(KeyValueRecord(id="a driver's own", value="7"))
    store.close()


def listed(served: Served) -> list[str]:
    entries = served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    return [entry.volume.volume_id for entry in entries]


@pytest.mark.timeout(300)
def test_from_a_database_to_custom_resources_and_back(
    kubernetes: KubernetesAPI,
    namespace: str,
    resources: dict[str, Any],
    new_server: Callable[..., Served],
    tmp_path: Path,
) -> None:
    served = new_server(environment={"CINDERBOX_SEALING_KEYS": generate_key()})
    life = Life(served.start())
    life.run("create", "publish", "stage", "publish_node", "write", "snapshot", "group_snapshot")
    assert served.stop() == 0
    add_others(served.database)

    def count(kind: str) -> int:
        return len(kubernetes.kubectl("get", kind, "-n", namespace, "-o", "name").split())

    served.command("migrate", json.dumps(resources), CINDERBOX_SEALING_KEYS="", expect=2)  # secrets in clear
    copying = served.begin("migrate", json.dumps(resources))
    wait_until(lambda: count("cvol") > 5, served.log_text)
    copying.kill()
    copying.wait()
    assert count("cvol") <= OTHERS
    served.command("migrate", json.dumps(resources))
    counts = {kind: count(kind) for kind in KINDS}
    assert counts == {"cvol": 101, "csnap": 2, "cconn": 1, "ckv": 5, "cgrp": 1, "cgsnap": 1, "cnode": 1}

    served.start(X_CSI_PERSISTENCE_CONFIG=json.dumps(resources))
    known, volume = listed(served), life.volume.volume_id
    assert len(known) == OTHERS + 1
    life.run("create", "snapshot", "group_snapshot", "read", "unpublish_node", "unstage", "unpublish", "publish")
    assert life.volume.volume_id == volume
    wait_until(lambda: "in-use" in kubernetes.kubectl("get", "cvol", volume, "-n", namespace), served.log_text)
    assert served.stop() == 0

    back = json.dumps({"storage": "db", "connection": f"sqlite:///{tmp_path}/back.sqlite"})
    for _ in range(2):
        printed = served.command("migrate", back, X_CSI_PERSISTENCE_CONFIG=json.dumps(resources))
    assert "volume (101 were there): 0 records" in printed
    served.start(X_CSI_PERSISTENCE_CONFIG=back)
    assert listed(served) == known
    life.run("create", "stage", "publish_node", "read", "unpublish_node", "unstage", "unpublish")
    assert life.volume.volume_id == volume
    life.run("delete_snapshot", "delete_group_snapshot", "delete")
    assert served.files() == []


def test_config_says_how_cinder_backends_are(
    kubernetes: KubernetesAPI, namespace: str, resources: dict[str, Any], new_server: Callable[..., Served]
) -> None:
    served = new_server(persistence=resources, environment={"CINDERBOX_SEALING_KEYS": generate_key()})
    backend = {
        "apiVersion": "cinderbox.io/v1",
        "kind": "CinderBackend",
        "metadata": {"name": "fast", "namespace": namespace},
        "spec": {"driver": "PowerStoreDriver"},
    }
    kubernetes.kubectl("apply", "-f", "-", input_text=json.dumps(backend))
    said = served.command("config", "--connect", expect=2, with_errors=True)
    assert "CinderBackend fast: Unknown: no controller has said anything of it" in said
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": _NOW}
    stale = ready | {"type": "UpToDate", "status": "False", "reason": "StartFailed", "message": "no answer"}
    patch = json.dumps({"status": {"conditions": [ready, stale]}})
    kubernetes.kubectl(
        "patch", "cbackend", "fast", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
    )
    said = " ".join(served.command("config", "--connect", with_errors=True).split())
    assert "CinderBackend fast: ready " in said
    assert "serves with an earlier configuration: StartFailed: no answer" in said


def test_rotation_of_the_sealing_keys(
    kubernetes: KubernetesAPI,
    namespace: str,
    resources: dict[str, Any],
    new_server: Callable[..., Served],
    tmp_path: Path,
) -> None:
    """As docs/kubernetes.md says: the keys are what the pod's volume has of a Secret, and the command runs beside the
    serving controller."""
    old, new = generate_key(), generate_key()
    keys = tmp_path / "keys"

    def put(*lines: str) -> None:
        """Into the Secret, and from there into the file, as kubelet does."""
        text = "\n".join(lines)
        manifest = kubernetes.kubectl(
            *("create", "secret", "generic", "sealing", f"--from-literal=keys={text}", "--dry-run=client", "-o", "json")
        )
        kubernetes.kubectl("apply", "-n", namespace, "-f", "-", input_text=manifest)
        secret = kubernetes.get("secret", "sealing", "-n", namespace)
        keys.touch(mode=0o600)
        keys.write_bytes(base64.b64decode(secret["data"]["keys"]))

    def sealed_fields() -> list[str]:
        found = [item["spec"].get("connectionInfo") for item in kubernetes.get("cconn", "-n", namespace)["items"]]
        found += [item["spec"].get("providerAuth") for item in kubernetes.get("cvol", "-n", namespace)["items"]]
        return [str(value) for value in found if value]

    put(old)
    served = new_server(persistence=resources, environment={"CINDERBOX_SEALING_KEYS_FILE": str(keys)})
    life = Life(served.start())
    life.run("create", "publish", "stage")
    store = CRDPersistence(namespace=namespace, kubeconfig=str(kubernetes.kubeconfig))
    store.create(
        VolumeRecord(id=str(uuid.uuid4()), host="host@other", status="available", provider_auth="CHAP a S3cret")
    )
    store.close()
    before = sealed_fields()
    assert len(before) == 2

    put(new, old)
    assert served.stop() == 0
    served.start()
    assert served.command("reseal") == "2 records were resealed\n"
    after = sealed_fields()
    prefixes = {field.rpartition(":")[0] for field in after}
    assert len(prefixes) == 1
    assert prefixes.isdisjoint({field.rpartition(":")[0] for field in before})
    assert "S3cret" not in kubernetes.kubectl("get", "cinderbox", "-n", namespace, "-o", "yaml")
    assert served.command("reseal") == "0 records were resealed\n"

    put(new)
    assert served.stop() == 0
    served.start()
    life.run("publish", "stage", "unstage", "unpublish", "delete")
    assert served.files() == []
