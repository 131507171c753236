"""The chart, rendered and installed the way its users do it."""

import json
import subprocess
from typing import Any

import yaml

from tests.support.project import PROJECT

CHART = PROJECT / "deploy/helm/cinderbox"
HELM = PROJECT / ".tools/kubernetes/bin/helm"

Object = dict[str, Any]

ARRAY: Object = {
    "name": "array",
    "driver": "cinder.volume.drivers.pure.PureISCSIDriver",
    "options": {"san_ip": "192.0.2.7"},
}
LOOP: Object = {
    "name": "loop",
    "driver": "csi_plugin.storage.drivers.loop.LoopDriver",
    "options": {"loop_volumes_dir": "/srv/volumes/a"},
}
LVM: Object = {"name": "lvm", "driver": "LVMVolumeDriver", "options": {"volume_group": "vg"}}

RESTRICTED: Object = {"backends": [ARRAY]}
HOST: Object = {
    "backends": [LOOP, LVM],
    "hostPaths": ["/srv/volumes"],
    "controller": {"profile": "host", "nodeSelector": {"kubernetes.io/hostname": "storage-1"}},
}


def try_render(values: Object, *arguments: str, release: str = "box", namespace: str = "storage") -> Any:
    command = [HELM, "template", release, CHART, "--namespace", namespace, "--kube-version", "1.37", "-f", "-"]
    return subprocess.run([*command, *arguments], input=json.dumps(values), capture_output=True, text=True, check=False)


def render(values: Object, *arguments: str, release: str = "box", namespace: str = "storage") -> list[Object]:
    done = try_render(values, *arguments, release=release, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def refusal(values: Object) -> str:
    """Why helm refuses these values."""
    done = try_render(values)
    assert done.returncode != 0, "helm took these values"
    return str(done.stderr)


def one(manifests: list[Object], kind: str, name: str = "") -> Object:
    """The object of a kind (and with that end of its name)."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"].endswith(name)]
    assert len(found) == 1, f"{len(found)} objects are {kind} *{name}"
    return found[0]
