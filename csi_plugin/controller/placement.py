"""Where a new volume goes: the source's backend, or the one that Cinder's scheduler prefers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import grpc

from csi_plugin.controller import lookups, luks_headers, storage_objects
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.requests import sizes, topology
from csi_plugin.controller.requests.parameters import parse_volume_parameters
from csi_plugin.controller.requests.volume_request import ContentSource, VolumeRequest
from csi_plugin.persistence.records import SnapshotRecord, VolumeRecord
from csi_plugin.protocol.errors import (
    RpcError,
    invalid_argument,
    not_found,
    out_of_range,
    resource_exhausted,
    unavailable,
)
from csi_plugin.storage import references
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder import scheduler
from csi_plugin.units import GIB


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A chosen backend and what the volume is to be there."""

    backend: Backend
    pool: str = ""
    size: int
    """GiB, with ``header``."""
    header: int = 0
    """GiB of them for a LUKS header."""
    extra_specs: dict[str, str]
    qos_specs: dict[str, str]
    snapshot: SnapshotRecord | None = None
    volume: VolumeRecord | None = None

    def release(self) -> None:
        """After a failure: the room that the scheduler reserved is free again with the stats that are read next."""
        self.backend.reservations.settle(self.pool, self.size)


def place_volume(context: ControllerContext, request: VolumeRequest) -> Placement:
    """Choose where a new volume goes.

    Raises NOT_FOUND (no such source), INVALID_ARGUMENT (the source does not fit the parameters, or these name a backend
    that nobody has configured), FAILED_PRECONDITION (the source is on such a one), OUT_OF_RANGE (size),
    RESOURCE_EXHAUSTED (no pool has room, or none where the topology wants it) and UNAVAILABLE (the backend that the
    parameters name, or the source's, is not ready; or none is).
    """
    match request.source:
        case ContentSource(kind="snapshot"):
            return _place_with_snapshot(context, request, request.source)
        case ContentSource(kind="volume"):
            return _place_with_volume(context, request, request.source)
    return _schedule(context, request)


@contextmanager
def full_pool_errors(backend: Backend, *, pool: str, gib: int, extra_specs: Mapping[str, str]) -> Iterator[None]:
    """Turn INTERNAL errors of a driver in the block into RESOURCE_EXHAUSTED when the pool has no room for ``gib`` more.

    Drivers and their tools say in their own words that a pool is full, and the scheduler's stats may be a minute old.
    """
    try:
        yield
    except RpcError as error:
        if error.code is not grpc.StatusCode.INTERNAL:
            raise
        if scheduler.has_room(backend, pool_name=pool, size=gib, extra_specs=extra_specs):
            raise
        raise resource_exhausted(f"backend {backend.name} has no room for {gib} GiB: {error.message}") from error


@contextmanager
def room_to_grow(backend: Backend, volume: VolumeRecord, *, size: int) -> Iterator[None]:
    """Hold the room that a volume needs to have ``size`` GiB while a driver makes it that large, in the block.

    Raises OUT_OF_RANGE, before or after, where there is none: COs take that as final, so that a claim can be given its
    former size again, and RESOURCE_EXHAUSTED as something that may still be going on.
    """
    growth = size - volume.size
    try:
        with driver_errors(f"capacity_range.required_bytes: volume {volume.id} cannot have {size} GiB"):
            pool = scheduler.reserve_growth(backend, pool_name=volume.pool, size=growth, extra_specs=volume.extra_specs)
        try:
            with full_pool_errors(backend, pool=volume.pool, gib=growth, extra_specs=volume.extra_specs):
                yield
        finally:
            backend.reservations.settle(pool, growth)
    except RpcError as error:
        if error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        raise out_of_range(error.message) from error


def with_qos(candidates: list[Backend], qos_specs: Mapping[str, str]) -> list[Backend]:
    """Those that hold to these QoS specs. Raises INVALID_ARGUMENT where none does."""
    able, refusals = [], []
    for backend in candidates:
        try:
            backend.check_qos(qos_specs)
            able.append(backend)
        except ValueError as error:
            refusals.append(f"backend {backend.name}: {error}")
    if not able:
        raise invalid_argument(f"parameters: {'; '.join(refusals)}")
    return able


def _candidates(context: ControllerContext, name: str) -> list[Backend]:
    """The backend that the parameters name, or all. INVALID_ARGUMENT for one that nobody has configured: that is final,
    so the CO stops when nobody wants the volume any more."""
    if name:
        try:
            context.backends.check_known(name)
        except ValueError as error:
            raise invalid_argument(f"parameters.backend: {error}") from error
        return [storage_objects.backend(context, name)]
    found = context.backends.ready()
    if not found:
        raise unavailable("no backend is ready")
    return found


def _schedule(context: ControllerContext, request: VolumeRequest) -> Placement:
    parameters = request.parameters
    header = luks_headers.new_header_gib(parameters.encryption)
    size = sizes.size_in_range(request.capacity, header=header)
    candidates = with_qos(_candidates(context, parameters.backend), parameters.qos_specs)
    with driver_errors("choosing a pool"):
        backend, pool = scheduler.choose(
            candidates,
            size=size,
            extra_specs=parameters.extra_specs,
            pool_name=parameters.pool or None,
            topology=topology.wanted_topologies(request.requirements),
            multiattach=request.needs_multiattach,
        )
    return Placement(
        backend=backend,
        pool=pool,
        size=size,
        header=header,
        extra_specs=parameters.extra_specs,
        qos_specs=parameters.qos_specs,
    )


def _place_with_snapshot(context: ControllerContext, request: VolumeRequest, source: ContentSource) -> Placement:
    snapshot = lookups.find_visible(context.store, SnapshotRecord, source.id)
    if snapshot is None:
        raise not_found(f"{source.field}: no snapshot has the id {source.id!r}")
    with driver_errors("volume_content_source"):
        references.check_snapshot(snapshot)
    origin = context.store.get(VolumeRecord, snapshot.volume_id)
    placement = _place_with_source(context, request, snapshot, origin=origin)
    return replace(placement, snapshot=snapshot)


def _place_with_volume(context: ControllerContext, request: VolumeRequest, source: ContentSource) -> Placement:
    volume = lookups.find_visible(context.store, VolumeRecord, source.id)
    if volume is None:
        raise not_found(f"{source.field}: no volume has the id {source.id!r}")
    placement = _place_with_source(context, request, volume, origin=volume)
    return replace(placement, volume=volume)


def _place_with_source(
    context: ControllerContext,
    request: VolumeRequest,
    source: SnapshotRecord | VolumeRecord,
    *,
    origin: VolumeRecord | None,
) -> Placement:
    """A copy goes where its source is: Cinder's drivers copy inside one backend."""
    parameters = request.parameters
    source_size, header = luks_headers.usable_gib(source), luks_headers.header_gib(source)
    _check_parameters_fit(request, backend_name=source.backend, origin=origin)
    if 0 < request.capacity.required_bytes <= (source_size - 1) * GIB:
        raise out_of_range(f"capacity_range.required_bytes is less than the size of the source, {source_size} GiB")
    size = sizes.size_in_range(request.capacity, smallest=source_size, header=header)
    _check_encryption(request, origin)
    backend = storage_objects.configured_backend(context, source.backend, field="volume_content_source")
    _check_backend(request, backend)
    with_qos([backend], parameters.qos_specs)
    inherits = origin is not None and not parameters.extra_specs and not parameters.qos_specs
    pool = parameters.pool or (origin.pool if origin else "")
    extra_specs = dict(origin.extra_specs) if inherits and origin else parameters.extra_specs
    with driver_errors("volume_content_source: no room for a copy beside its source"):
        scheduler.reserve_growth(backend, pool_name=pool, size=size, extra_specs=extra_specs)
    return Placement(
        backend=backend,
        pool=pool,
        size=size,
        header=header,
        extra_specs=extra_specs,
        qos_specs=dict(origin.qos_specs) if inherits and origin else parameters.qos_specs,
    )


def _check_parameters_fit(request: VolumeRequest, *, backend_name: str, origin: VolumeRecord | None) -> None:
    parameters = request.parameters
    if parameters.backend not in ("", backend_name):
        raise invalid_argument(
            f"volume_content_source: the source is on backend {backend_name}, the parameters name {parameters.backend}"
        )
    if origin is not None and parameters.pool not in ("", origin.pool):
        raise invalid_argument(
            f"volume_content_source: the source is in pool {origin.pool}, the parameters name {parameters.pool}"
        )


def _check_backend(request: VolumeRequest, backend: Backend) -> None:
    if backend.is_suspended:
        raise resource_exhausted(
            f"volume_content_source: the source's backend {backend.name} is suspended: it takes no new volumes"
        )
    if not topology.is_accessible(backend.topology, request.requirements):
        raise resource_exhausted(
            f"accessibility_requirements: the source's backend {backend.name} is not accessible from there"
        )
    if request.needs_multiattach and not backend.supports("multiattach"):
        raise invalid_argument(
            f"volume_capabilities: the source's backend {backend.name} cannot connect a volume to several nodes"
        )


def _check_encryption(request: VolumeRequest, origin: VolumeRecord | None) -> None:
    """A copy of an encrypted volume is encrypted with the same key, and one in clear stays so."""
    if origin is None or origin.intent is None:
        return
    stored = origin.intent.request
    of_source = parse_volume_parameters(stored.get("parameters", {}), {}).encryption.get("provider", "")
    if of_source != request.parameters.encryption.get("provider", ""):
        raise invalid_argument(
            f"volume_content_source: the source has encryption {of_source or 'none'}, "
            "the parameters ask for another one"
        )
