"""Requests in a normalized form, so that equal ones can be recognized. Secrets and mount flags stay out."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from csi_plugin.protocol import csi_pb2


def fingerprint(request: Any) -> str:
    """SHA-256 of a normalized request (anything JSON can hold), independent of the order of its keys."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def normalize_capability(capability: csi_pb2.VolumeCapability) -> dict[str, str]:
    """Access type, filesystem and access mode. Mount flags may hold secrets and change nothing here."""
    normalized = {
        "access": capability.WhichOneof("access_type") or "",
        "mode": csi_pb2.VolumeCapability.AccessMode.Mode.Name(capability.access_mode.mode),
    }
    if capability.mount.fs_type:
        normalized["fs_type"] = capability.mount.fs_type
    return normalized


def normalize_capabilities(capabilities: Iterable[csi_pb2.VolumeCapability]) -> list[dict[str, str]]:
    """Capabilities without repetitions, in an order that does not depend on the request's."""
    unique = {json.dumps(found, sort_keys=True): found for found in map(normalize_capability, capabilities)}
    return [unique[key] for key in sorted(unique)]


def normalize_topologies(topologies: Iterable[csi_pb2.Topology]) -> list[dict[str, str]]:
    return [dict(topology.segments) for topology in topologies]
