"""Claims of pods: the image and the chart, with the guest's own iscsid, multipathd, udev and kernel.

The backends whose storage the host serves or mounts have a controller of the host profile; Ceph's has a restricted one.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.cluster import Object, claim, pod
from tests.lab import ceph, host, storage
from tests.lab.backends import BACKENDS, LabBackend
from tests.lab.kubernetes import NODE, SECONDS, LabCluster, node
from tests.support.polling import wait_until

MULTIPATH, NVME, NFS, RBD = (
    next(backend for backend in BACKENDS if backend.name == name) for name in ("multipath", "nvme", "nfs", "rbd")
)
HOST, RESTRICTED = "host", "restricted"
NFS_OPTIONS = {"nas_host": storage.NFS_ADDRESS, "nas_share_path": "/volumes"}
NO_ELECTION = {"extraArgs": ["--leader-election=false"]}
UNHURRIED: Object = {
    "settings": {"lease_seconds": 120},
    "sidecars": {
        "timeout": f"{SECONDS}s",
        "snapshotter": {"enabled": False},
        **dict.fromkeys(("provisioner", "attacher", "resizer"), NO_ELECTION),
    },
}
"""Leases that are renewed in time also where everything is emulated."""
MULTIPATH_CONF: Object = {
    "settings": {"request_multipath": True},
    "extraVolumes": [{"name": "multipath-conf", "hostPath": {"path": "/etc/multipath.conf", "type": "File"}}],
    "extraVolumeMounts": [{"name": "multipath-conf", "mountPath": "/etc/multipath.conf", "readOnly": True}],
}

pytestmark = [pytest.mark.pods, pytest.mark.timeout(3600)]


class Case(NamedTuple):
    backend: LabBackend
    release: str
    block: bool = False


CASES = {
    "iscsi": Case(MULTIPATH, HOST),
    "nvme": Case(NVME, HOST),
    "nfs": Case(NFS, HOST),
    "raw-block": Case(MULTIPATH, HOST, block=True),
    "rbd": Case(RBD, RESTRICTED),
}


def backend_values(backend: LabBackend, **options: str) -> Object:
    kept = {name: value for name, value in backend.options.items() if name != "nfs_shares_config"}
    return {"name": backend.name, "driver": backend.driver, "options": {**kept, **options}}


def classes(*backends: LabBackend) -> list[Object]:
    return [
        {"name": backend.name, "parameters": {"backend": backend.name}, "volumeBindingMode": "Immediate"}
        for backend in backends
    ]


def host_values() -> Object:
    """The module that Cinder's NVMe target imports comes from a ConfigMap."""
    return {
        "driverName": f"{HOST}.example",
        "backends": [backend_values(MULTIPATH), backend_values(NVME), backend_values(NFS, **NFS_OPTIONS)],
        "storageClasses": classes(MULTIPATH, NVME, NFS),
        "controller": {
            "profile": "host",
            "nodeSelector": {"kubernetes.io/hostname": NODE},
            "extraEnv": [{"name": "PYTHONPATH", "value": "/modules"}],
            "extraVolumes": [{"name": "nvmet", "configMap": {"name": "nvmet"}}],
            "extraVolumeMounts": [{"name": "nvmet", "mountPath": "/modules/nvmet"}],
        },
        "node": MULTIPATH_CONF,
        **UNHURRIED,
    }


def restricted_values() -> Object:
    """ceph.conf and the keyring come from a Secret."""
    return {
        "driverName": f"{RESTRICTED}.example",
        "backends": [backend_values(RBD)],
        "storageClasses": classes(RBD),
        "controller": {
            "profile": "restricted",
            "replicas": 1,
            "extraVolumes": [{"name": "ceph", "secret": {"secretName": "ceph", "defaultMode": 0o440}}],
            "extraVolumeMounts": [{"name": "ceph", "mountPath": "/etc/ceph", "readOnly": True}],
        },
        "node": {"http": {"port": 9829}},
        **UNHURRIED,
    }


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The guest is a node. The folder that it runs in."""
    folder = tmp_path_factory.mktemp("cluster")
    with node(folder):
        yield folder


@pytest.fixture(scope="module")
def host_release(kubernetes: Path) -> LabCluster:
    for backend in (MULTIPATH, NVME, NFS):
        backend.make()
    storage.multipath_daemon()
    release = LabCluster(HOST, kubernetes)
    release.create()
    release.kubectl("create", "configmap", "nvmet", f"--from-file={Path(__file__).parent / 'modules/nvmet'}")
    release.install(host_values())
    return release


@pytest.fixture(scope="module")
def restricted_release(kubernetes: Path) -> LabCluster:
    RBD.make()
    release = LabCluster(RESTRICTED, kubernetes)
    release.create()
    configuration = f"{host.run('ceph', 'config', 'generate-minimal-conf')}\trbd_default_features = 1\n"
    files = (f"--from-literal=ceph.conf={configuration}", f"--from-file={ceph.KEYRING}")
    release.kubectl("create", "secret", "generic", "ceph", *files)
    release.install(restricted_values())
    return release


@pytest.fixture(scope="module")
def cluster(kubernetes: Path) -> LabCluster:
    """A namespace for claims and pods."""
    made = LabCluster("pods", kubernetes)
    made.create()
    return made


@pytest.mark.parametrize("name", CASES)
def test_data_goes_from_one_pod_to_the_next(cluster: LabCluster, name: str, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    request.getfixturevalue(f"{case.release}_release")
    writer, reader = f"{name}-writer", f"{name}-reader"
    before = host.traces()
    wanted = claim(name, block=case.block, storageClassName=case.backend.name)
    cluster.apply(wanted, pod(writer, name, block=case.block))
    cluster.wait_running(writer, SECONDS)
    volume = cluster.get("pvc", name)["spec"]["volumeName"]
    attachment = attachment_of(cluster, volume)
    if case.backend is MULTIPATH:
        device = device_of(volume)
        # The second path joins when its session is there.
        wait_until(lambda: len(host.paths_of(device)) == 2, lambda: host.paths_of(device), SECONDS)
        host.check_two_paths(device)
    path = "/dev/block" if case.block else "/data/file"
    script = f"dd if=/dev/urandom of={path} bs=1M count=16 conv=fsync 2>/dev/null && {checksum(path)}"
    written = cluster.exec(writer, script)
    cluster.kubectl("delete", "pod", writer, f"--timeout={SECONDS}s")
    cluster.wait(f"volumeattachment/{attachment}", "delete", SECONDS)
    assert host.traces() == before

    cluster.apply(pod(reader, name, block=case.block))
    cluster.wait_running(reader, SECONDS)
    assert cluster.exec(reader, checksum(path)) == written
    cluster.kubectl("delete", f"pod/{reader}", f"pvc/{name}", f"--timeout={SECONDS}s")
    cluster.wait(f"pv/{volume}", "delete", SECONDS)
    host.nothing_is_left(before, case.backend.objects())


def test_restricted_controller_has_no_privileges(restricted_release: LabCluster) -> None:
    status = process_status(restricted_release)
    assert (status["Uid"], status["CapBnd"]) == ("65532", "0000000000000000")


def process_status(release: LabCluster) -> dict[str, str]:
    deployment = f"deployment/{release.namespace}-cinderbox-controller"
    lines = release.kubectl("exec", deployment, "-c", "cinderbox", "--", "cat", "/proc/1/status").splitlines()
    return {line.split(":")[0]: line.split(":")[1].split()[0] for line in lines if line.split(":")[1].strip()}


def checksum(path: str) -> str:
    return f"dd if={path} bs=1M count=16 2>/dev/null | sha256sum"


def attachment_of(cluster: LabCluster, volume: str) -> str:
    attachments = json.loads(cluster.kubectl("get", "volumeattachments", "--output=json"))["items"]
    (name,) = (
        attachment["metadata"]["name"]
        for attachment in attachments
        if attachment["spec"]["source"]["persistentVolumeName"] == volume
    )
    return str(name)


def device_of(volume: str) -> Path:
    """The guest's device of a PersistentVolume."""
    mounted = json.loads(host.run("findmnt", "--json", "--list", "--output", "SOURCE,TARGET"))["filesystems"]
    sources = [entry["source"] for entry in mounted if f"/{volume}" in entry["target"]]
    # Of raw block, the device is a file of devtmpfs that is mounted.
    return Path(sources[0].partition("[")[2].rstrip("]").join(("/dev", "")) if "[" in sources[0] else sources[0])
