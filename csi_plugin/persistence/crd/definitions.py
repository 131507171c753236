"""Definitions of custom resources that are older than this program: fields that they lack would not be stored."""

import logging
from dataclasses import fields
from typing import Any

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.crd.kinds import BACKEND, GROUP, RESOURCES, VERSION
from csi_plugin.persistence.crd.resource import camel_case
from csi_plugin.persistence.records import JSON, Intent

_ADVICE = (
    "the definitions of custom resources are older than this program, and Helm does not upgrade them: "
    "kubectl apply --server-side -f the chart's crds/"
)
_BACKEND_FIELDS = ("driver", "options", "secretRef", "suspend", "topology", "maxConcurrentOperations")

_TIMEOUT = (3.0, 10.0)
"""Seconds to connect, and to wait: a server puts that answer together when it is first asked."""

LOG = logging.getLogger(__name__)


def check_definitions(*, namespace: str | None, kubeconfig: str | None) -> None:
    """Raise InvalidPersistence, with the names, where the API server would drop fields of ours.

    Where it does not say what it serves, writes are compared one by one; see check_stored().
    """
    api = ResourceAPI(GROUP, VERSION, namespace=namespace, kubeconfig=kubeconfig, is_repeating=False, timeout=_TIMEOUT)
    try:
        served = api.read(f"/openapi/v3/apis/{GROUP}/{VERSION}")["components"]["schemas"]
    except PersistenceError as error:
        LOG.warning("cannot compare the definitions of custom resources with this program: %s", error)
        return
    finally:
        api.close()
    missing = [path for kind, paths in _wanted().items() for path in _missing(_schema(served, kind), kind, paths)]
    if missing:
        raise InvalidPersistence(f"{_ADVICE}; missing: {', '.join(missing)}")


def check_stored(sent: JSON, stored: JSON) -> None:
    """Raise PersistenceError where the API server answered a write with less than was sent."""
    dropped = sorted(_dropped(sent["spec"], stored.get("spec") or {}, "spec"))
    if dropped:
        raise PersistenceError(
            f"{sent['kind']} {sent['metadata']['name']}: {_ADVICE}; the API server dropped: {', '.join(dropped)}"
        )


def _wanted() -> dict[str, list[tuple[str, ...]]]:
    """Paths of properties below those of ``spec``, by kind of resource."""
    wanted: dict[str, list[tuple[str, ...]]] = {BACKEND.kind: [(name,) for name in _BACKEND_FIELDS]}
    for record, names in RESOURCES.items():
        paths: list[tuple[str, ...]] = [(camel_case(field.name),) for field in fields(record)]
        if ("intent",) in paths:
            paths += [("intent", camel_case(field.name)) for field in fields(Intent)]
        wanted[names.kind] = paths
    return wanted


def _schema(served: JSON, kind: str) -> JSON:
    """Of a kind's spec; empty when it is not installed."""
    name = ".".join([*reversed(GROUP.split(".")), VERSION, kind])
    found: JSON = served.get(name, {}).get("properties", {}).get("spec", {})
    return found


def _missing(schema: JSON, kind: str, paths: list[tuple[str, ...]]) -> list[str]:
    if not schema:
        return [kind]
    missing = []
    for path in paths:
        place: Any = schema
        for name in path:
            place = place.get("properties", {}).get(name) if place is not None else None
        if place is None and not (len(path) > 1 and f"{kind}.spec.{path[0]}" in missing):
            missing.append(".".join((kind, "spec", *path)))
    return missing


def _dropped(sent: Any, stored: Any, path: str) -> list[str]:
    if not isinstance(sent, dict) or not isinstance(stored, dict):
        return []
    dropped = []
    for name, value in sent.items():
        if name not in stored:
            dropped += [f"{path}.{name}"] if value is not None else []
        else:
            dropped += _dropped(value, stored[name], f"{path}.{name}")
    return dropped
