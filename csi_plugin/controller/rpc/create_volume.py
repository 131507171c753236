"""CreateVolume: a new volume from nothing, from a snapshot or from another volume."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csi_plugin.controller import access, lookups, placement, responses, sizes, storage_objects
from csi_plugin.controller.context import Call, Core
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.fingerprint import fingerprint, normal_capabilities, normal_source, normal_topologies
from csi_plugin.controller.labels import CLAIM, labels
from csi_plugin.controller.parameters import VolumeParameters, lasting, volume_parameters
from csi_plugin.controller.placement import Place
from csi_plugin.controller.recovery import orphans
from csi_plugin.persistence.records import JSON, Intent, Phase, VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import aborted, already_exists, invalid_argument

if TYPE_CHECKING:
    from csi_plugin.storage.volume import Volume


@dataclass(frozen=True, kw_only=True)
class WantedVolume:
    """A valid CreateVolumeRequest."""

    request: csi_pb2.CreateVolumeRequest
    parameters: VolumeParameters
    normal: JSON
    """What a repeat must have in common with the first request; capacity and topology are compared by meaning."""
    fingerprint: str

    @property
    def name(self) -> str:
        return self.request.name

    @property
    def source(self) -> dict[str, str]:
        return normal_source(self.request.volume_content_source)


def create_volume(core: Core, request: csi_pb2.CreateVolumeRequest, call: Call) -> csi_pb2.CreateVolumeResponse:
    """CSI spec, "CreateVolume"."""
    wanted = _validated(core, request)
    whole = fingerprint(
        [
            wanted.normal,
            [request.capacity_range.required_bytes, request.capacity_range.limit_bytes],
            normal_topologies(request.accessibility_requirements.requisite),
            normal_topologies(request.accessibility_requirements.preferred),
        ]
    )
    record = core.inflight.run(
        f"volume-name/{wanted.name}", whole, lambda: _found_or_made(core, wanted), wait_seconds=call.time_remaining()
    )
    return csi_pb2.CreateVolumeResponse(volume=responses.volume(record))


def _validated(core: Core, request: csi_pb2.CreateVolumeRequest) -> WantedVolume:
    request_rules.check_sizes(request)
    request_rules.require(request, "name", "volume_capabilities")
    request_rules.check_name(request.name, field="name")
    for capability in request.volume_capabilities:
        request_rules.check_capability(capability, field="volume_capabilities")
    access.check_access(request.volume_capabilities, core.configuration, field="volume_capabilities")
    sizes.check_range(request.capacity_range)
    _check_source(core, request)
    placement.check_requirements(request.accessibility_requirements)
    parameters = volume_parameters(request.parameters, request.mutable_parameters)
    normal: JSON = {
        "parameters": lasting(request.parameters),
        "mutable_parameters": lasting(request.mutable_parameters),
        "capabilities": normal_capabilities(request.volume_capabilities),
        "source": normal_source(request.volume_content_source),
    }
    return WantedVolume(request=request, parameters=parameters, normal=normal, fingerprint=fingerprint(normal))


def _check_source(core: Core, request: csi_pb2.CreateVolumeRequest) -> None:
    if not request.HasField("volume_content_source"):
        return
    source = normal_source(request.volume_content_source)
    if not source:
        raise invalid_argument("volume_content_source: one of snapshot and volume is required")
    ((kind, source_id),) = source.items()
    if not source_id:
        raise invalid_argument(f"volume_content_source.{kind}.{kind}_id is required")
    feature = {"snapshot": "snapshot", "volume": "clone"}[kind]
    if feature in core.configuration.disabled_features:
        raise invalid_argument(f"volume_content_source.{kind} is disabled here (disabled_features: {feature})")


def _found_or_made(core: Core, wanted: WantedVolume) -> VolumeRecord:
    tries = core.store.find(VolumeRecord, csi_name=wanted.name)
    live = lookups.live_try(tries)
    if live is not None:
        match lookups.intent_of(live).phase:
            case Phase.READY:
                return _compatible(live, wanted)
            case Phase.DELETING:
                raise aborted(f"volume {live.id} of the name {wanted.name!r} is being deleted")
        orphans.set_aside_interrupted(core, live)
    return _made(core, wanted, generation=lookups.next_generation(tries))


def _compatible(record: VolumeRecord, wanted: WantedVolume) -> VolumeRecord:
    """The volume that has the name, if it is what the request asks for; ALREADY_EXISTS otherwise."""
    intent = lookups.intent_of(record)
    capacity = wanted.request.capacity_range
    differing = [name for name, value in wanted.normal.items() if intent.request.get(name) != value]
    if not sizes.fits(record.size, capacity):
        differing.append(f"capacity_range (it has {record.size} GiB)")
    if not placement.is_accessible(intent.topology, wanted.request.accessibility_requirements):
        differing.append("accessibility_requirements")
    if differing:
        raise already_exists(f"name: volume {wanted.name!r} exists with other {', '.join(differing)}")
    return record


def _made(core: Core, wanted: WantedVolume, *, generation: int) -> VolumeRecord:
    volume_id = core.identifiers.of_try("volume", wanted.name, generation)
    used = [f"{kind}/{source_id}" for kind, source_id in wanted.source.items()]
    with core.inflight.hold(f"volume/{volume_id}"), core.sources.reading(*used):
        place = placement.of_new_volume(core, wanted.request, wanted.parameters, wanted.source)
        intent = Intent(
            name=wanted.name,
            generation=generation,
            fingerprint=wanted.fingerprint,
            request=wanted.normal,
            context=_context(wanted, place),
            topology=place.backend.topology,
        )
        with placement.shortages(place.backend, pool=place.pool, gib=place.size, extra_specs=place.extra_specs):
            try:
                with driver_errors(f"creating volume {volume_id} ({wanted.name})"):
                    volume = _driver_made(core, wanted, place, volume_id=volume_id, intent=intent)
            except BaseException as error:
                orphans.set_aside_failed(core, VolumeRecord, volume_id, error)
                placement.give_back(place)
                raise
        record: VolumeRecord = volume.record
        core.handed_out.add(record.id)
        return record


def _driver_made(core: Core, wanted: WantedVolume, place: Place, *, volume_id: str, intent: Intent) -> "Volume":
    """Let the driver make the volume; the library records the intent before and the outcome after."""
    titles = labels(
        wanted.request.parameters,
        csi_name=wanted.name,
        owner=CLAIM,
        driver_name=core.configuration.driver_name,
        cluster_name=core.configuration.cluster_name,
    )
    attributes: dict[str, Any] = {
        "id": volume_id,
        "name": titles.name,
        "description": titles.description,
        "metadata": titles.metadata,
        "extra_specs": place.extra_specs,
        "qos_specs": place.qos_specs,
        "multiattach": access.needs_multiattach(wanted.request.volume_capabilities),
        "intent": intent,
    }
    if place.snapshot is not None:
        return storage_objects.snapshot(core, place.snapshot).create_volume(size=place.size, **attributes)
    if place.volume is not None:
        return storage_objects.volume(core, place.volume).clone(size=place.size, **attributes)
    return place.backend.create_volume(place.size, pool_name=place.pool, **attributes)


def _context(wanted: WantedVolume, place: Place) -> dict[str, str]:
    """volume_context: what the node needs to know at once, and nothing secret."""
    context = {"cinderbox.io/backend": place.backend.name}
    if wanted.parameters.mkfs_options:
        context["mkfs_options"] = wanted.parameters.mkfs_options
    if encryption := wanted.parameters.encryption:
        context["encryption"] = encryption["provider"]
    return context
