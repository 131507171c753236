"""The Secret that holds the sealing keys: made once in the cluster, and by nobody who renders manifests.

What is rendered anew at each sync would bring a new random key each time, and every sealed secret would be lost.
"""

import base64
import uuid

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd.api import Conflict, Missing, ResourceAPI
from csi_plugin.persistence.crd.kinds import GROUP, RESOURCES, VERSION
from csi_plugin.persistence.crd.resource import camel_case
from csi_plugin.persistence.records import JSON
from csi_plugin.persistence.sealing import Sealer, generate_key


def read_or_create_keys(name: str, entry: str, *, namespace: str | None, kubeconfig: str | None) -> str:
    """The keys in an entry of a Secret, which is made with a new key if it is absent; one of several callers makes it.

    Raises PersistenceError for a Secret without keys, and for an absent one while records are sealed.
    """
    api = ResourceAPI(GROUP, VERSION, namespace=namespace, kubeconfig=kubeconfig)
    try:
        path = f"/api/v1/namespaces/{api.namespace}/secrets/{name}"
        try:
            secret = api.read(path)
        except Missing:
            _check_nothing_is_sealed(api, name)
            secret = _create(api, path, name, entry)
        return _keys_of(secret, name, entry)
    finally:
        api.close()


def _create(api: ResourceAPI, path: str, name: str, entry: str) -> JSON:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": api.namespace},
        "data": {entry: base64.b64encode(generate_key().encode()).decode()},
    }
    try:
        # Not a plain create, which rights cannot limit to one name. Each caller is a field manager of its own, so the
        # server refuses the key of all but the first.
        return api.apply(path, secret, manager=f"cinderbox-{uuid.uuid4()}")
    except Conflict:
        return api.read(path)


def _keys_of(secret: JSON, name: str, entry: str) -> str:
    keys = base64.b64decode((secret.get("data") or {}).get(entry, "")).decode("ascii")
    if not keys.strip():
        raise PersistenceError(
            f"Secret {name} has no keys in its entry {entry!r}: put back what was there; only a Secret that is absent "
            "is made with a new key"
        )
    return keys


def _check_nothing_is_sealed(api: ResourceAPI, name: str) -> None:
    for kind, names in RESOURCES.items():
        for field in map(camel_case, kind.SECRET):
            try:
                resources, _ = api.list_all(names.plural)
            except Missing:
                continue  # no definition, no record
            if any(Sealer.is_sealed((resource.get("spec") or {}).get(field)) for resource in resources):
                raise PersistenceError(
                    f"Secret {name} is not there, and {names.plural} are sealed with its keys: restore it from a "
                    "backup. If there is none, make it with the output of `cinderbox generate-key`: attached volumes "
                    "then have to be detached by hand"
                )
