"""Requests in a normal form, so that equal ones are told from differing ones. Secrets and mount flags stay out."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from csi_plugin.protocol import csi_pb2


def fingerprint(request: Any) -> str:
    """SHA-256 of a normalised request (anything JSON can hold), independent of the order of its keys."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def normal_capability(capability: csi_pb2.VolumeCapability) -> dict[str, str]:
    """Access type, filesystem and access mode. Mount flags may hold secrets and change nothing here."""
    normal = {
        "access": capability.WhichOneof("access_type") or "",
        "mode": csi_pb2.VolumeCapability.AccessMode.Mode.Name(capability.access_mode.mode),
    }
    if capability.mount.fs_type:
        normal["fs_type"] = capability.mount.fs_type
    return normal


def normal_capabilities(capabilities: Iterable[csi_pb2.VolumeCapability]) -> list[dict[str, str]]:
    """Capabilities without repetitions, in an order that does not depend on the request's."""
    unique = {json.dumps(normal, sort_keys=True): normal for normal in map(normal_capability, capabilities)}
    return [unique[key] for key in sorted(unique)]


def normal_source(source: csi_pb2.VolumeContentSource) -> dict[str, str]:
    """{"snapshot": id}, {"volume": id}, or empty."""
    match source.WhichOneof("type"):
        case "snapshot":
            return {"snapshot": source.snapshot.snapshot_id}
        case "volume":
            return {"volume": source.volume.volume_id}
    return {}


def normal_topologies(topologies: Iterable[csi_pb2.Topology]) -> list[dict[str, str]]:
    return [dict(topology.segments) for topology in topologies]
