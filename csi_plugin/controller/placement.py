"""Where a new volume goes: the source's backend, or the one that Cinder's scheduler prefers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import grpc

from csi_plugin.controller import access, lookups, sizes, storage_objects
from csi_plugin.controller.context import Core
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.fingerprint import normal_topologies
from csi_plugin.controller.parameters import VolumeParameters, volume_parameters
from csi_plugin.persistence.records import SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import (
    RpcError,
    invalid_argument,
    not_found,
    out_of_range,
    resource_exhausted,
    unavailable,
)

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

Segments = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A chosen backend and what the volume is to be there."""

    backend: "Backend"
    pool: str = ""
    size: int
    """GiB."""
    extra_specs: dict[str, str]
    qos_specs: dict[str, str]
    snapshot: SnapshotRecord | None = None
    volume: VolumeRecord | None = None


def check_requirements(requirements: csi_pb2.TopologyRequirement) -> None:
    """Refuse, with INVALID_ARGUMENT, topologies without segments and preferred ones that are not requisite."""
    for name in ("requisite", "preferred"):
        for number, topology in enumerate(getattr(requirements, name)):
            if not topology.segments:
                raise invalid_argument(f"accessibility_requirements.{name}[{number}].segments is required")
    requisite = normal_topologies(requirements.requisite)
    if requisite and any(segments not in requisite for segments in normal_topologies(requirements.preferred)):
        raise invalid_argument("accessibility_requirements.preferred must be among those of requisite")


def wanted_topologies(requirements: csi_pb2.TopologyRequirement) -> list[dict[str, str]]:
    """Where the volume may be, the most wanted first."""
    wanted = normal_topologies(requirements.preferred)
    wanted += [segments for segments in normal_topologies(requirements.requisite) if segments not in wanted]
    return wanted


def is_accessible(topology: Sequence[Segments], requirements: csi_pb2.TopologyRequirement) -> bool:
    """Whether a volume that is accessible from ``topology`` (everywhere when empty) meets the requisite topologies."""
    requisite = normal_topologies(requirements.requisite)
    if not topology or not requisite:
        return True
    return any(_within(segments, wanted) or _within(wanted, segments) for segments in topology for wanted in requisite)


def of_new_volume(
    core: Core,
    request: csi_pb2.CreateVolumeRequest,
    parameters: VolumeParameters,
    source: Mapping[str, str],
) -> Place:
    """Choose where a new volume goes.

    Raises NOT_FOUND (no such source), INVALID_ARGUMENT (the source does not fit the parameters), OUT_OF_RANGE (size),
    RESOURCE_EXHAUSTED (no pool has room, or none where the topology wants it) and UNAVAILABLE (the backend that the
    parameters name, or the source's, is not ready; or none is).
    """
    if "snapshot" in source:
        return _beside_snapshot(core, request, parameters, source["snapshot"])
    if "volume" in source:
        return _beside_volume(core, request, parameters, source["volume"])
    return _scheduled(core, request, parameters)


@contextmanager
def shortages(backend: "Backend", *, pool: str, gib: int, extra_specs: Mapping[str, str]) -> Iterator[None]:
    """Turn INTERNAL errors of a driver in the block into RESOURCE_EXHAUSTED when the pool has no room for ``gib`` more.

    Drivers and their tools say in their own words that a pool is full, and the scheduler's stats may be a minute old.
    """
    from csi_plugin.storage.cinder import scheduler

    try:
        yield
    except RpcError as error:
        if error.code is not grpc.StatusCode.INTERNAL:
            raise
        if scheduler.has_room(backend, pool_name=pool, size=gib, extra_specs=extra_specs):
            raise
        raise resource_exhausted(f"backend {backend.name} has no room for {gib} GiB: {error.message}") from error


def give_back(place: Place) -> None:
    """After a failure: the room that the scheduler reserved is free again with the stats that are read next."""
    if place.snapshot is None and place.volume is None:
        place.backend.reservations.made(place.pool, place.size)


def _scheduled(core: Core, request: csi_pb2.CreateVolumeRequest, parameters: VolumeParameters) -> Place:
    from csi_plugin.storage.cinder import scheduler

    size = sizes.size_in_range(request.capacity_range)
    candidates = [storage_objects.backend(core, parameters.backend)] if parameters.backend else core.backends.ready()
    if not candidates:
        raise unavailable("no backend is ready")
    with driver_errors("choosing a pool"):
        backend, pool = scheduler.choose(
            candidates,
            size=size,
            extra_specs=parameters.extra_specs,
            pool_name=parameters.pool or None,
            topology=wanted_topologies(request.accessibility_requirements),
            multiattach=access.needs_multiattach(request.volume_capabilities),
        )
    return Place(
        backend=backend,
        pool=pool,
        size=size,
        extra_specs=parameters.extra_specs,
        qos_specs=parameters.qos_specs,
    )


def _beside_snapshot(
    core: Core, request: csi_pb2.CreateVolumeRequest, parameters: VolumeParameters, snapshot_id: str
) -> Place:
    snapshot = lookups.find_shown(core.store, SnapshotRecord, snapshot_id)
    if snapshot is None:
        raise not_found(f"volume_content_source.snapshot.snapshot_id: no snapshot has the id {snapshot_id!r}")
    origin = core.store.get(VolumeRecord, snapshot.volume_id)
    place = _beside(
        core,
        request,
        parameters,
        backend_name=snapshot.backend,
        source_size=snapshot.volume_size,
        origin=origin,
    )
    return replace(place, snapshot=snapshot)


def _beside_volume(
    core: Core, request: csi_pb2.CreateVolumeRequest, parameters: VolumeParameters, volume_id: str
) -> Place:
    volume = lookups.find_shown(core.store, VolumeRecord, volume_id)
    if volume is None:
        raise not_found(f"volume_content_source.volume.volume_id: no volume has the id {volume_id!r}")
    place = _beside(core, request, parameters, backend_name=volume.backend, source_size=volume.size, origin=volume)
    return replace(place, volume=volume)


def _beside(
    core: Core,
    request: csi_pb2.CreateVolumeRequest,
    parameters: VolumeParameters,
    *,
    backend_name: str,
    source_size: int,
    origin: VolumeRecord | None,
) -> Place:
    """A copy goes where its source is: Cinder's drivers copy inside one backend."""
    if parameters.backend not in ("", backend_name):
        raise invalid_argument(
            f"volume_content_source: the source is on backend {backend_name}, the parameters name {parameters.backend}"
        )
    if origin is not None and parameters.pool not in ("", origin.pool):
        raise invalid_argument(
            f"volume_content_source: the source is in pool {origin.pool}, the parameters name {parameters.pool}"
        )
    capacity = request.capacity_range
    if 0 < capacity.required_bytes <= (source_size - 1) * sizes.GIB:
        raise out_of_range(f"capacity_range.required_bytes is less than the size of the source, {source_size} GiB")
    size = sizes.size_in_range(capacity, smallest=source_size)
    _check_encryption(parameters, origin)
    backend = storage_objects.backend(core, backend_name)
    if backend.is_suspended:
        raise resource_exhausted(
            f"volume_content_source: the source's backend {backend_name} is suspended: it takes no new volumes"
        )
    if not is_accessible(backend.topology, request.accessibility_requirements):
        raise resource_exhausted(
            f"accessibility_requirements: the source's backend {backend_name} is not accessible from there"
        )
    if access.needs_multiattach(request.volume_capabilities) and not backend.supports("multiattach"):
        raise invalid_argument(
            f"volume_capabilities: the source's backend {backend_name} cannot connect a volume to several nodes"
        )
    inherits = origin is not None and not parameters.extra_specs and not parameters.qos_specs
    return Place(
        backend=backend,
        pool=parameters.pool or (origin.pool if origin else ""),
        size=size,
        extra_specs=dict(origin.extra_specs) if inherits and origin else parameters.extra_specs,
        qos_specs=dict(origin.qos_specs) if inherits and origin else parameters.qos_specs,
    )


def _check_encryption(parameters: VolumeParameters, origin: VolumeRecord | None) -> None:
    """A copy of an encrypted volume is encrypted with the same key, and one in clear stays so."""
    if origin is None or origin.intent is None:
        return
    request = origin.intent.request
    of_source = volume_parameters(request.get("parameters", {}), {}).encryption.get("provider", "")
    if of_source != parameters.encryption.get("provider", ""):
        raise invalid_argument(
            f"volume_content_source: the source has encryption {of_source or 'none'}, "
            "the parameters ask for another one"
        )


def _within(inner: Segments, outer: Segments) -> bool:
    return all(outer.get(name) == value for name, value in inner.items())
