"""CinderBackends on a real API server: a running controller follows what people write, and tells them how it goes."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2
from tests.support.csi import GIB, MOUNT
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.loop_volumes import file_names
from tests.support.polling import wait_until
from tests.support.project import LOOP_DRIVER
from tests.support.serving import Served

ARRAY_DRIVER = "tests.server.array_driver.ArrayDriver"
Object = dict[str, Any]


class Backends:
    """The CinderBackends of a namespace, as people handle them, and the controller that follows them."""

    def __init__(self, kubernetes: KubernetesAPI, namespace: str, served: Served, folder: Path) -> None:
        self.kubernetes = kubernetes
        self.namespace = namespace
        self.served = served
        self.folder = folder

    def kubectl(self, *arguments: str, **keywords: Any) -> str:
        return self.kubernetes.kubectl(*arguments, "-n", self.namespace, **keywords)

    def apply(self, name: str, *, driver: str = LOOP_DRIVER, **spec: Any) -> None:
        resource = {
            "apiVersion": "cinderbox.io/v1",
            "kind": "CinderBackend",
            "metadata": {"name": name},
            "spec": {"driver": driver, "options": {"loop_volumes_dir": str(self.volumes(name))}} | spec,
        }
        self.kubectl("apply", "-f", "-", input_text=json.dumps(resource))

    def secret(self, name: str, **options: str) -> None:
        resource = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": options}
        self.kubectl("apply", "-f", "-", input_text=json.dumps(resource))

    def patch(self, name: str, spec: Object) -> None:
        self.kubectl("patch", "cbackend", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def volumes(self, name: str) -> Path:
        return self.folder / name

    def array(self, name: str, password: str | None) -> Path:
        """A directory that is an array; out of reach without a password."""
        array = self.folder / f"{name}-array"
        array.mkdir(exist_ok=True)
        if password is not None:
            (array / "password").write_text(password)
        return array

    def status(self, name: str) -> Object:
        found: Object = self.kubernetes.get("cbackend", name, "-n", self.namespace).get("status", {})
        return found

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        for found in self.status(name).get("conditions", []):
            if found["type"] == kind:
                return found["status"], found["reason"], found["message"]
        return "", "", ""

    def wait(self, name: str, *words: str, kind: str = "Ready") -> str:
        """Wait for a condition with that status and reason; its message."""
        wait_until(
            lambda: self.condition(name, kind)[: len(words)] == words,
            lambda: f"{self.status(name)}\n{self.served.log_text()}",
        )
        return self.condition(name, kind)[2]

    def wait_in_force(self, name: str) -> None:
        """Wait until the resource's present generation is in force."""
        generation = self.kubernetes.get("cbackend", name, "-n", self.namespace)["metadata"]["generation"]
        wait_until(
            lambda: (
                self.status(name).get("observedGeneration") == generation
                and self.condition(name, "UpToDate")[0] == "True"
            ),
            lambda: f"{self.status(name)}\n{self.served.log_text()}",
        )

    def events(self, name: str) -> list[tuple[str, str]]:
        found = self.kubernetes.get("events", "-n", self.namespace)["items"]
        return sorted((event["type"], event["reason"]) for event in found if event["involvedObject"]["name"] == name)

    def create(self, volume: str, backend: str, source: csi_pb2.VolumeContentSource | None = None) -> csi_pb2.Volume:
        request = csi_pb2.CreateVolumeRequest(
            name=volume,
            capacity_range=csi_pb2.CapacityRange(required_bytes=GIB),
            volume_capabilities=[MOUNT],
            parameters={"backend": backend},
            volume_content_source=source,
        )
        return self.served.controller.CreateVolume(request).volume

    def delete(self, volume: csi_pb2.Volume) -> None:
        self.served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id))

    def capacity(self, backend: str) -> int:
        request = csi_pb2.GetCapacityRequest(parameters={"backend": backend})
        return int(self.served.controller.GetCapacity(request).available_capacity)

    def refusal(self, call: Callable[[], object], code: grpc.StatusCode) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is code, caught.value.details()
        return str(caught.value.details())


Start = Callable[..., Backends]


@pytest.fixture(scope="module")
def start(kubernetes: KubernetesAPI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a controller in a namespace of its own, without backends unless the settings are given some."""
    started: list[Served] = []

    def new(settings_backends: str = "") -> Backends:
        folder, namespace = tmp_path_factory.mktemp("backends"), kubernetes.new_namespace()
        persistence = {"storage": "crd", "namespace": namespace, "kubeconfig": str(kubernetes.kubeconfig)}
        environment = {"CINDERBOX_SEALING_KEYS": generate_key(), "X_CSI_BACKEND_CONFIG": settings_backends}
        served = Served(folder, mode="controller", persistence=persistence, environment=environment)
        started.append(served)
        served.start(wait=False)
        return Backends(kubernetes, namespace, served, folder)

    yield new
    for served in started:
        served.close()


@pytest.fixture(scope="module")
def backends(start: Start) -> Backends:
    """One controller for tests that use backends of different names."""
    return start()


def test_a_backend_is_added_and_edited_while_others_serve(backends: Backends) -> None:
    backends.apply("near", options={"loop_volumes_dir": str(backends.volumes("near")), "reserved_percentage": 0})
    backends.apply("other")
    for name in ("near", "other"):
        backends.wait(name, "True", "Ready")
    backends.served.wait_until_ready()
    volume = backends.create("pvc-near", "near")
    assert file_names(backends.volumes("near")) == [f"volume-{volume.volume_id}"]

    def row() -> list[str]:
        return backends.kubectl("get", "cbackend", "near", "--no-headers").split()

    wait_until(lambda: row()[3:4] == ["1"], row)
    capacity = f"{row()[4]} {row()[5]}"
    assert row()[:4] == ["near", LOOP_DRIVER, "True", "1"]
    assert row()[6:7] == ["false"]
    assert all(text.endswith("Gi") for text in capacity.split())
    whole = backends.capacity("near")
    others_driver_started = backends.served.log.read_text().count("backend other is ready")

    backends.patch("near", {"options": {"reserved_percentage": 50}})
    backends.wait_in_force("near")
    wait_until(lambda: backends.capacity("near") < whole, lambda: backends.capacity("near"))
    backends.delete(volume)
    assert file_names(backends.volumes("near")) == []
    assert backends.served.log.read_text().count("backend other is ready") == others_driver_started
    assert backends.events("near") == [("Normal", "InForce"), ("Normal", "Ready")]


def test_a_bad_option_is_named_and_the_last_good_configuration_serves(backends: Backends) -> None:
    backends.apply("kept")
    backends.wait("kept", "True", "Ready")
    backends.patch("kept", {"options": {"reserved_percentag": 5}})
    message = backends.wait("kept", "False", "InvalidConfiguration", kind="UpToDate")
    assert "unknown option reserved_percentag of backend kept; did you mean reserved_percentage?" in message
    assert backends.condition("kept", "Ready")[:2] == ("True", "Ready")
    assert backends.status("kept")["lastError"] == message
    backends.delete(backends.create("pvc-kept", "kept"))
    backends.patch("kept", {"options": {"reserved_percentag": None, "reserved_percentage": "many"}})

    def says_so() -> bool:
        return "option reserved_percentage of backend kept: 'many' is not" in backends.condition("kept", "UpToDate")[2]

    wait_until(says_so, lambda: backends.status("kept"))
    backends.patch("kept", {"options": {"reserved_percentage": 5}})
    backends.wait_in_force("kept")
    assert "lastError" not in backends.status("kept")
    assert backends.events("kept") == [
        ("Normal", "InForce"),
        ("Normal", "Ready"),
        ("Warning", "InvalidConfiguration"),
        ("Warning", "InvalidConfiguration"),
    ]


@pytest.mark.parametrize(
    ("name", "spec", "reason", "message"),
    [
        (
            "nodriver",
            {"driver": "NoSuchDriver"},
            "InvalidConfiguration",
            "volume_driver 'NoSuchDriver' cannot be loaded",
        ),
        (
            "named",
            {"options": {"volume_backend_name": "x"}},
            "InvalidConfiguration",
            "volume_backend_name is not an option of a driver: it is the name of the resource",
        ),
        (
            "placed",
            {"topology": [{"no zone": "z1"}]},
            "InvalidConfiguration",
            "spec.topology: 'no zone' must be a name",
        ),
        ("nosecret", {"secretRef": {"name": "gone"}}, "SecretNotFound", "Secret gone (spec.secretRef) does not exist"),
    ],
)
def test_what_cannot_be_started_waits_for_an_edit(
    backends: Backends, name: str, spec: Object, reason: str, message: str
) -> None:
    backends.apply(name, **spec)
    assert message in backends.wait(name, "False", reason)
    assert backends.condition(name, "UpToDate")[:2] == ("False", reason)
    code = grpc.StatusCode.UNAVAILABLE
    # What is wrong in the resource itself is found before a driver is started with it.
    state = "ready" if name == "nodriver" else "configured"
    assert f"backend {name} is not {state}" in backends.refusal(lambda: backends.create(f"pvc-{name}", name), code)
    backends.kubectl("delete", "cbackend", name)
    backends.apply(name)
    backends.wait(name, "True", "Ready")


def test_a_password_is_rotated_while_the_storage_works(backends: Backends) -> None:
    array = backends.array("rotated", "old-password")
    backends.secret("rotated", array_password="old-password\n")
    options = {"loop_volumes_dir": str(backends.volumes("rotated")), "array_dir": str(array)}
    backends.apply("rotated", driver=ARRAY_DRIVER, options=options, secretRef={"name": "rotated"})
    backends.wait("rotated", "True", "Ready")
    (array / "slow").touch()
    made: list[csi_pb2.Volume] = []
    creation = threading.Thread(target=lambda: made.append(backends.create("pvc-slow", "rotated")))
    creation.start()
    wait_until((array / "log").exists, backends.served.log_text)

    (array / "password").write_text("new-password")
    backends.secret("rotated", array_password="new-password")
    log = backends.served.log
    wait_until(lambda: log.read_text().count("backend rotated is ready") == 2, backends.served.log_text)
    (array / "slow").unlink()
    creation.join(30)
    second = backends.create("pvc-fast", "rotated")
    lines = (array / "log").read_text().split("\n")
    assert lines[:2] == ["begun old-password", "ended old-password"]  # the driver that began it ends it
    assert lines[2:4] == ["begun new-password", "ended new-password"]
    for volume in (*made, second):
        backends.delete(volume)

    # A wrong one leaves the driver that serves, and is told nobody.
    backends.secret("rotated", array_password="wrong-password")
    message = backends.wait("rotated", "False", "StartFailed", kind="UpToDate")
    assert "the array refuses ***" in message
    backends.delete(backends.create("pvc-still", "rotated"))
    backends.secret("rotated", array_password="new-password")
    backends.wait("rotated", "True", "InForce", kind="UpToDate")
    backends.secret("rotated", array_password="new-password", array_dir="/")
    message = backends.wait("rotated", "False", "InvalidConfiguration", kind="UpToDate")
    assert message == "option array_dir is in spec.options and in Secret rotated: it belongs into one of them"
    everything = backends.kubectl("get", "cbackend,events", "-o", "yaml") + log.read_text()
    for password in ("old-password", "new-password", "wrong-password"):
        assert password not in everything


def test_an_array_out_of_reach_is_tried_again_and_stops_nobody(backends: Backends) -> None:
    array = backends.array("far", None)
    options = {
        "loop_volumes_dir": str(backends.volumes("far")),
        "array_dir": str(array),
        "array_password": "known",
    }
    backends.apply("beside")
    backends.apply("far", driver=ARRAY_DRIVER, options=options)
    assert "the array is out of reach" in backends.wait("far", "False", "StartFailed")
    backends.wait("beside", "True", "Ready")
    backends.delete(backends.create("pvc-beside", "beside"))
    backends.array("far", "known")
    backends.wait("far", "True", "Ready")
    assert backends.events("far") == [("Normal", "Ready"), ("Warning", "StartFailed")]
    # One that serves and is lost: its driver cannot tell its stats.
    (array / "password").unlink()
    volume = backends.create("pvc-far", "far")  # after which they are asked for again
    assert "the array is out of reach" in backends.wait("far", "False", "Unreachable")
    backends.array("far", "known")
    (array / "down").touch()
    backends.delete(volume)
    wait_until(
        lambda: backends.condition("far", "Ready")[2] == "the driver says that its storage is down",
        lambda: backends.status("far"),
    )
    (array / "down").unlink()
    volume = create_at_last(backends, "pvc-far-again")
    (array / "full").touch()
    backends.delete(volume)
    assert backends.wait("far", "True", "PoolFull") == "nothing is free in pool far"
    assert ("Warning", "PoolFull") in backends.events("far")
    (array / "full").unlink()
    backends.delete(create_at_last(backends, "pvc-far-last"))  # which has the stats read again
    backends.wait("far", "True", "Ready")


def create_at_last(backends: Backends, name: str) -> csi_pb2.Volume:
    """Create a volume on a storage that was away, or full: an attempt has its stats read again."""
    made: list[csi_pb2.Volume] = []

    def is_created() -> bool:
        try:
            made.append(backends.create(name, "far"))
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        return bool(made)

    wait_until(is_created, lambda: backends.status("far"))
    return made[0]


def test_a_suspended_backend_goes_on_with_what_it_has(backends: Backends) -> None:
    backends.apply("paused")
    backends.wait("paused", "True", "Ready")
    volume = backends.create("pvc-paused", "paused")
    assert backends.capacity("paused") > 0
    backends.patch("paused", {"suspend": True})
    backends.wait("paused", "True", "Suspended")
    assert backends.capacity("paused") == 0
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    source = csi_pb2.VolumeContentSource(volume=csi_pb2.VolumeContentSource.VolumeSource(volume_id=volume.volume_id))
    message = "backend paused is suspended: it takes no new volumes"
    assert message in backends.refusal(lambda: backends.create("pvc-new", "paused"), exhausted)
    assert message in backends.refusal(lambda: backends.create("pvc-clone", "paused", source), exhausted)
    assert backends.create("pvc-paused", "paused") == volume
    request = csi_pb2.CreateSnapshotRequest(name="snap", source_volume_id=volume.volume_id)
    snapshot = backends.served.controller.CreateSnapshot(request).snapshot
    expansion = csi_pb2.ControllerExpandVolumeRequest(
        volume_id=volume.volume_id, capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB)
    )
    assert backends.served.controller.ControllerExpandVolume(expansion).capacity_bytes == 2 * GIB
    backends.served.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))
    backends.delete(volume)
    backends.patch("paused", {"suspend": False})
    backends.wait("paused", "True", "Ready")
    backends.delete(backends.create("pvc-new", "paused"))


def test_a_deleted_backend_waits_for_its_volumes(backends: Backends) -> None:
    backends.apply("leaving")
    backends.wait("leaving", "True", "Ready")
    volume = backends.create("pvc-leaving", "leaving")
    backends.kubectl("delete", "cbackend", "leaving", "--wait=false")
    message = backends.wait("leaving", "True", "InUse", kind="DeletionHeld")
    assert message.startswith("1 volumes and 0 snapshots are on it")
    assert "cinderbox.io/forget=true" in message
    assert "it is being removed" in backends.wait("leaving", "True", "Suspended")
    assert "suspended" in backends.refusal(
        lambda: backends.create("pvc-late", "leaving"), grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    backends.delete(volume)
    backends.kubectl("wait", "cbackend/leaving", "--for=delete", "--timeout=30s")


def test_a_backend_that_a_person_forgets_leaves_its_volumes(backends: Backends) -> None:
    backends.apply("forgotten")
    backends.wait("forgotten", "True", "Ready")
    volume = backends.create("pvc-forgotten", "forgotten")
    backends.kubectl("annotate", "cbackend", "forgotten", "cinderbox.io/forget=true")
    backends.kubectl("delete", "cbackend", "forgotten", "--timeout=30s")
    file = backends.volumes("forgotten") / f"volume-{volume.volume_id}"
    assert file.exists()
    message = backends.refusal(lambda: backends.delete(volume), grpc.StatusCode.UNAVAILABLE)
    assert "backend forgotten is not configured" in message
    # Final for new volumes, so that external-provisioner stops when their claims are deleted.
    message = backends.refusal(lambda: backends.create("pvc-late", "forgotten"), grpc.StatusCode.INVALID_ARGUMENT)
    assert "parameters.backend: backend forgotten is not configured" in message
    backends.apply("forgotten")
    backends.wait("forgotten", "True", "Ready")
    backends.delete(volume)
    assert not file.exists()


def test_a_driver_is_not_changed_under_its_volumes(backends: Backends) -> None:
    backends.apply("same")
    backends.wait("same", "True", "Ready")
    volume = backends.create("pvc-same", "same")
    wait_until(lambda: backends.status("same")["volumes"] == 1, lambda: backends.status("same"))
    patch = json.dumps({"spec": {"driver": ARRAY_DRIVER}})
    refused = backends.kubectl("patch", "cbackend", "same", "--type=merge", "-p", patch, check=False)
    assert "driver cannot be changed while volumes or snapshots are on the backend" in refused
    backends.delete(volume)
    wait_until(lambda: backends.status("same")["volumes"] == 0, lambda: backends.status("same"))
    array = backends.array("same", "known")
    options = {"array_dir": str(array), "array_password": "known"}
    backends.patch("same", {"driver": ARRAY_DRIVER, "options": options})
    backends.wait_in_force("same")
    backends.delete(backends.create("pvc-same", "same"))
    assert (array / "log").read_text() == "begun known\nended known\n"


def test_everything_is_there_after_a_restart(start: Start) -> None:
    backends = start()
    array = backends.array("array", None)
    backends.secret("array", array_password="password-1")
    options = {"loop_volumes_dir": str(backends.volumes("array")), "array_dir": str(array)}
    backends.apply("array", driver=ARRAY_DRIVER, options=options, secretRef={"name": "array"}, suspend=True)
    backends.apply("loop")
    backends.wait("array", "False", "StartFailed")
    backends.wait("loop", "True", "Ready")
    volume = backends.create("pvc-1", "loop")
    backends.served.kill()
    backends.kubectl("delete", "cbackend", "loop", "--wait=false")
    backends.patch("array", {"suspend": False})
    backends.array("array", "password-1")
    backends.served.start()
    backends.wait("array", "True", "Ready")
    backends.delete(backends.create("pvc-2", "array"))
    backends.wait("loop", "True", "InUse", kind="DeletionHeld")
    backends.delete(volume)
    backends.kubectl("wait", "cbackend/loop", "--for=delete", "--timeout=30s")


def test_a_backend_of_the_settings_counts(start: Start, tmp_path: Path) -> None:
    settings = {"name": "loop", "driver": LOOP_DRIVER, "loop_volumes_dir": str(tmp_path / "of-settings")}
    backends = start(json.dumps(settings))
    backends.served.wait_until_ready()
    backends.apply("loop")
    message = backends.wait("loop", "False", "NameTaken")
    assert "the controller's settings have a backend of this name" in message
    volume = backends.create("pvc-1", "loop")
    assert (tmp_path / "of-settings" / f"volume-{volume.volume_id}").exists()
    backends.kubectl("delete", "cbackend", "loop", "--timeout=30s")
    backends.delete(volume)


def test_a_backend_that_would_lose_its_volumes_serves_on_as_it_was(backends: Backends) -> None:
    """An edit by mistake: DeleteVolume was OK, the record went, and the volume stayed in the former directory."""
    backends.apply("moved")
    backends.wait("moved", "True", "Ready")
    volume = backends.create("pvc-moved", "moved")
    elsewhere = backends.volumes("elsewhere")
    backends.patch("moved", {"options": {"loop_volumes_dir": str(elsewhere)}})
    message = backends.wait("moved", "False", "InvalidConfiguration", kind="UpToDate")
    assert message.startswith("1 of 1 volumes")
    assert volume.volume_id in message
    assert backends.condition("moved", "Ready")[0] == "True"
    backends.delete(volume)
    assert list(backends.volumes("moved").glob("volume-*")) == []

    backends.create("pvc-given-up", "moved")
    backends.kubectl("annotate", "cbackend", "moved", "cinderbox.io/accept-missing-volumes=true")
    backends.wait("moved", "True", "InForce", kind="UpToDate")
    backends.create("pvc-elsewhere", "moved")
    assert len(list(elsewhere.glob("volume-*"))) == 1
