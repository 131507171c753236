"""What is left of an installation when its pods are gone, and its removal: policies, records, and at last the CRDs.

Everything is selected by namespace and driver. Several installations share a cluster, and their names may be alike.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd.api import Missing, ResourceAPI
from csi_plugin.persistence.crd.kinds import BACKEND, GROUP, RESOURCES, VERSION, ResourceKind, resource_name
from csi_plugin.persistence.records import (
    DRIVER_NAME_KEY,
    INSTANCE_KEY,
    JSON,
    ConnectionRecord,
    KeyValueRecord,
    SnapshotRecord,
    VolumeRecord,
)

_KEY_VALUES = RESOURCES[KeyValueRecord]
_KINDS: tuple[ResourceKind, ...] = (
    *(kind for kind in RESOURCES.values() if kind != _KEY_VALUES),
    BACKEND,
    _KEY_VALUES,
)
"""Those last that tell which installation it is: a removal that broke off is begun again."""
_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
_BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_NAMED = 3
_NOTICE_SECONDS = 120.0
"""How long the API server is given to notice that a policy is gone."""
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Doomed:
    """One object that goes."""

    kind: str
    name: str
    path: str


@dataclass(kw_only=True)
class Removal:
    """What is to go, in that order, and why it must not yet."""

    obstacles: list[str] = field(default_factory=list)
    doomed: list[Doomed] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    """What a person may expect to go as well, and why it does not."""


def plan_removal(api: ResourceAPI, *, driver_name: str = "", leaves_volumes: bool = False) -> Removal:
    """Look at what is in the API's namespace and, of its driver, in the cluster; nothing is changed.

    ``driver_name``: as its records tell when empty; ``leaves_volumes``: whether volumes may stay on the storage without
    a record. Raises PersistenceError.
    """
    records = {kind: _list(api, kind) for kind in _KINDS}
    removal = Removal()
    successor = _successor(api)
    removal.obstacles += _of_pods(api)
    if successor:
        removal.stays.append(f"volumes, PersistentVolumes and snapshots: namespace {successor} goes on with them")
    else:
        driver_name = driver_name or _value(api, DRIVER_NAME_KEY)
        if driver_name:
            removal.obstacles += _of_cluster(api, driver_name)
        elif any(records.values()):
            removal.obstacles.append(_UNKNOWN_DRIVER)
        if not leaves_volumes:
            removal.obstacles += _of_storage(records)
    removal.doomed += _policies(api)
    for kind, found in records.items():
        at = f"/apis/{GROUP}/{VERSION}/namespaces/{api.namespace}/{kind.plural}"
        removal.doomed += [Doomed(kind=kind.kind, name=name, path=f"{at}/{name}") for name in map(_name, found)]
    if other := _other_installation(api):
        removal.stays.append(f"the CRDs of {GROUP}: namespace {other} uses them")
    else:
        present = [found for found in _items(api, _DEFINITIONS) if found["spec"]["group"] == GROUP]
        removal.doomed += [
            Doomed(kind="CustomResourceDefinition", name=name, path=f"{_DEFINITIONS}/{name}")
            for name in map(_name, present)
        ]
    removal.stays.append(
        f"namespace {api.namespace} with its Secrets (sealing keys, backends): kubectl delete namespace {api.namespace}"
    )
    return removal


def carry_out(api: ResourceAPI, doomed: list[Doomed]) -> Iterator[Doomed]:
    """Remove objects, one after the other; yields each when it is gone. Raises PersistenceError: begin again then."""
    for one in doomed:
        deadline = time.monotonic() + _NOTICE_SECONDS
        while not _is_removed(api, one, last=time.monotonic() > deadline):
            time.sleep(_PAUSE_SECONDS)
        yield one


_UNKNOWN_DRIVER = "no record says what the driver is called: name it with --driver, for its volumes to be looked for"


def _is_removed(api: ResourceAPI, one: Doomed, *, last: bool) -> bool:
    """Remove an object, a record without its finalizer, which nobody is there to remove. False for one that the API
    server refuses still: its parts notice later that the policies are gone. ``last``: raise then."""
    try:
        if one.path.startswith(f"/apis/{GROUP}/"):
            api.merge(one.path.split("/")[-2], one.name, {"metadata": {"finalizers": None}})
        api.remove(one.path)
    except Missing:
        return True
    except PersistenceError:
        if last:
            raise
        return False
    return True


def _of_pods(api: ResourceAPI) -> Iterator[str]:
    for kind, path in (("Deployment", "deployments"), ("DaemonSet", "daemonsets")):
        for found in _items(api, f"/apis/apps/v1/namespaces/{api.namespace}/{path}"):
            if _is_ours(found):
                release = _label(found, "app.kubernetes.io/instance")
                yield (
                    f"{kind} {_name(found)} is there: helm uninstall {release} --namespace {api.namespace}, or kubectl "
                    "delete what you applied"
                )
    pods = [_name(found) for found in _items(api, f"/api/v1/namespaces/{api.namespace}/pods") if _is_ours(found)]
    if pods:
        yield f"{_some(pods)} still run; a driver that ends could write a record again: wait until they are gone"


def _of_cluster(api: ResourceAPI, driver_name: str) -> Iterator[str]:
    """What Kubernetes has of the driver's volumes."""
    volumes = [
        found
        for found in api.list_in_cluster("", "v1", "persistentvolumes")
        if (found["spec"].get("csi") or {}).get("driver") == driver_name
    ]
    if volumes:
        yield (
            f"{len(volumes)} PersistentVolumes are of {driver_name} ({_some(map(_of_claim, volumes))}): delete their "
            "claims while the driver runs"
        )
    attachments = [
        f"{found['spec']['nodeName']} has {found['spec']['source'].get('persistentVolumeName')}"
        for found in api.list_in_cluster("storage.k8s.io", "v1", "volumeattachments")
        if found["spec"]["attacher"] == driver_name
    ]
    if attachments:
        yield f"{len(attachments)} volumes are attached ({_some(attachments)}): delete the pods that use them"
    contents = [
        _name(found)
        for found in _items(api, "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents")
        if found["spec"].get("driver") == driver_name
    ]
    if contents:
        yield (
            f"{len(contents)} VolumeSnapshotContents are of {driver_name} ({_some(contents)}): delete their "
            "VolumeSnapshots while the driver runs"
        )


def _of_storage(records: dict[ResourceKind, list[JSON]]) -> Iterator[str]:
    for kind, words in (
        (RESOURCES[VolumeRecord], "volumes are on the storage"),
        (RESOURCES[SnapshotRecord], "snapshots are on the storage"),
        (RESOURCES[ConnectionRecord], "connections to nodes are there"),
    ):
        if found := [_name(one) for one in records[kind]]:
            yield (
                f"{len(found)} {words} ({_some(found)}): delete them while the driver runs, or leave them on the "
                "storage without a record with --leave-volumes"
            )


def _policies(api: ResourceAPI) -> list[Doomed]:
    """Those that are bound to the namespace, and the one of the definitions, which has the same first name."""
    bindings = [found for found in _items(api, _BINDINGS) if _is_ours(found)]
    stems = {_name(found).rpartition("-")[0] for found in bindings if _bound_to(found) == api.namespace}
    ours = [_name(found) for found in bindings if _name(found).rpartition("-")[0] in stems]
    policies = [_name(found) for found in _items(api, _POLICIES) if _name(found).rpartition("-")[0] in stems]
    return [
        *(Doomed(kind="ValidatingAdmissionPolicyBinding", name=name, path=f"{_BINDINGS}/{name}") for name in ours),
        *(Doomed(kind="ValidatingAdmissionPolicy", name=name, path=f"{_POLICIES}/{name}") for name in policies),
    ]


def _other_installation(api: ResourceAPI) -> str:
    """The namespace of another installation, if there is one: it has records, or a controller."""
    for kind in _KINDS:
        path, elsewhere = f"/apis/{GROUP}/{VERSION}/{kind.plural}", f"metadata.namespace!={api.namespace}"
        for found in _items(api, path, limit=1, fieldSelector=elsewhere):
            return str(found["metadata"]["namespace"])
    for found in _items(api, "/apis/apps/v1/deployments", labelSelector="app.kubernetes.io/component=controller"):
        if _is_ours(found) and found["metadata"]["namespace"] != api.namespace:
            return str(found["metadata"]["namespace"])
    others = {_bound_to(found) for found in _items(api, _BINDINGS) if _is_ours(found)} - {"", api.namespace}
    return min(others, default="")


def _successor(api: ResourceAPI) -> str:
    """The namespace that this installation was moved to; empty when it was not.

    A copy of the records that no controller serves is none: a restored backup, or what a move has left behind.
    """
    instance = _value(api, INSTANCE_KEY)
    key = f"metadata.name={resource_name(INSTANCE_KEY)}"
    for found in _items(api, f"/apis/{GROUP}/{VERSION}/{_KEY_VALUES.plural}", fieldSelector=key):
        namespace = str(found["metadata"]["namespace"])
        if namespace == api.namespace or not instance or found["spec"].get("value") != instance:
            continue
        if _has_controller(api, namespace):
            return namespace
    return ""


def _has_controller(api: ResourceAPI, namespace: str) -> bool:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    return any(map(_is_ours, _items(api, path, labelSelector="app.kubernetes.io/component=controller")))


def _value(api: ResourceAPI, key: str) -> str:
    try:
        found = api.get(_KEY_VALUES.plural, resource_name(key))
    except Missing:
        return ""
    return str((found or {"spec": {}})["spec"].get("value") or "")


def _list(api: ResourceAPI, kind: ResourceKind) -> list[JSON]:
    try:
        return api.list_all(kind.plural)[0]
    except Missing:
        return []  # the CRDs are gone already


def _items(api: ResourceAPI, path: str, **query: Any) -> list[JSON]:
    try:
        found: list[JSON] = api.read(path, **query)["items"]
    except Missing:
        return []
    return found


def _is_ours(found: JSON) -> bool:
    return _label(found, "helm.sh/chart").startswith("cinderbox-")


def _bound_to(binding: JSON) -> str:
    resources = binding["spec"].get("matchResources") or {}
    labels = (resources.get("namespaceSelector") or {}).get("matchLabels") or {}
    return str(labels.get("kubernetes.io/metadata.name", ""))


def _of_claim(volume: JSON) -> str:
    claim = volume["spec"].get("claimRef") or {}
    return f"{claim['namespace']}/{claim['name']}" if claim else _name(volume)


def _name(found: JSON) -> str:
    return str(found["metadata"]["name"])


def _label(found: JSON, name: str) -> str:
    return str((found["metadata"].get("labels") or {}).get(name, ""))


def _some(names: Any) -> str:
    found = list(names)
    return ", ".join(found[:_NAMED]) + ("..." if len(found) > _NAMED else "")
