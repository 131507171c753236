"""A CreateVolumeRequest, checked and read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.requests import access, sizes, topology
from csi_plugin.controller.requests.fingerprint import normalize_capabilities, normalize_topologies
from csi_plugin.controller.requests.parameters import (
    MKFS_OPTIONS,
    VolumeParameters,
    parse_volume_parameters,
    without_sidecar_keys,
)
from csi_plugin.persistence.records import JSON
from csi_plugin.protocol import csi_pb2, mount_flags, request_rules
from csi_plugin.protocol.errors import invalid_argument
from csi_plugin.protocol.mkfs_options import parse_mkfs_options

_FEATURES = {"snapshot": "snapshot", "volume": "clone"}
"""Kind of source -> feature that settings can disable."""


@dataclass(frozen=True)
class ContentSource:
    """What a volume is a copy of."""

    kind: str
    """snapshot or volume."""
    id: str

    @property
    def resource(self) -> str:
        """What locks call it."""
        return f"{self.kind}/{self.id}"

    @property
    def field(self) -> str:
        """The field of the request that has its id."""
        return f"volume_content_source.{self.kind}.{self.kind}_id"


@dataclass(frozen=True, kw_only=True)
class VolumeRequest:
    """A valid CreateVolumeRequest."""

    name: str
    capacity: csi_pb2.CapacityRange
    capabilities: Sequence[csi_pb2.VolumeCapability]
    requirements: csi_pb2.TopologyRequirement
    source: ContentSource | None
    parameters: VolumeParameters
    given_parameters: Mapping[str, str]
    """As they came, with those that sidecars add."""
    normalized: JSON
    """What a repeat must have in common with the first request; capacity and topology are compared by meaning."""

    @property
    def needs_multiattach(self) -> bool:
        return access.needs_multiattach(self.capabilities)

    def whole(self) -> list[Any]:
        """What a repeat of the running request must have in common with it, as JSON."""
        return [
            self.normalized,
            [self.capacity.required_bytes, self.capacity.limit_bytes],
            normalize_topologies(self.requirements.requisite),
            normalize_topologies(self.requirements.preferred),
        ]


def read_volume_request(request: csi_pb2.CreateVolumeRequest, configuration: ControllerConfiguration) -> VolumeRequest:
    """Check the whole request. Raises INVALID_ARGUMENT that names the field and what is allowed."""
    request_rules.check_sizes(request)
    request_rules.require(request, "name", "volume_capabilities")
    request_rules.check_name(request.name, field="name")
    sizes.check_range(request.capacity_range)
    parameters = parse_volume_parameters(request.parameters, request.mutable_parameters)
    check_use(request.volume_capabilities, parameters, configuration)
    source = _read_source(request, configuration)
    topology.check_requirements(request.accessibility_requirements)
    return VolumeRequest(
        name=request.name,
        capacity=request.capacity_range,
        capabilities=request.volume_capabilities,
        requirements=request.accessibility_requirements,
        source=source,
        parameters=parameters,
        given_parameters=request.parameters,
        normalized={
            "parameters": without_sidecar_keys(request.parameters),
            "mutable_parameters": without_sidecar_keys(request.mutable_parameters),
            "capabilities": normalize_capabilities(request.volume_capabilities),
            "source": {source.kind: source.id} if source else {},
        },
    )


def check_use(
    capabilities: Sequence[csi_pb2.VolumeCapability],
    parameters: VolumeParameters,
    configuration: ControllerConfiguration,
) -> None:
    """Refuse, with INVALID_ARGUMENT, what no volume can be used for, and options that no filesystem of them takes.

    Without capabilities, as where room is asked for, the filesystem is not known.
    """
    for capability in capabilities:
        request_rules.check_capability(capability, field="volume_capabilities")
        mount_flags.check_known(capability.mount, field="volume_capabilities.mount")
    access.check_access(capabilities, configuration, field="volume_capabilities")
    for filesystem in {capability.mount.fs_type for capability in capabilities} or {""}:
        parse_mkfs_options(parameters.mkfs_options, filesystem=filesystem, field=f"parameters.{MKFS_OPTIONS}")


def _read_source(request: csi_pb2.CreateVolumeRequest, configuration: ControllerConfiguration) -> ContentSource | None:
    if not request.HasField("volume_content_source"):
        return None
    given = request.volume_content_source
    match given.WhichOneof("type"):
        case "snapshot":
            source = ContentSource("snapshot", given.snapshot.snapshot_id)
        case "volume":
            source = ContentSource("volume", given.volume.volume_id)
        case _:
            raise invalid_argument("volume_content_source: one of snapshot and volume is required")
    if not source.id:
        raise invalid_argument(f"{source.field} is required")
    if (feature := _FEATURES[source.kind]) in configuration.disabled_features:
        raise invalid_argument(f"volume_content_source.{source.kind} is disabled here (disabled_features: {feature})")
    return source
