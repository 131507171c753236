"""CreateVolume: a new volume from nothing, from a snapshot or from another volume."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from csi_plugin.controller import (
    filesystem_records,
    lifecycle,
    luks_headers,
    requested_sizes,
    responses,
    storage_objects,
)
from csi_plugin.controller.attempts import intent_of
from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.placement import Placement, full_pool_errors, place_volume
from csi_plugin.controller.requests import sizes, topology
from csi_plugin.controller.requests.labels import CLAIM, make_labels
from csi_plugin.controller.requests.volume_request import VolumeRequest, read_volume_request
from csi_plugin.persistence.records import Intent, VolumeRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.storage.volume import Volume


def create_volume(
    context: ControllerContext, request: csi_pb2.CreateVolumeRequest, call: Call
) -> csi_pb2.CreateVolumeResponse:
    """CSI spec, "CreateVolume"."""
    creation = VolumeCreation(read_volume_request(request, context.configuration))
    record = lifecycle.create(context, creation, call)
    return csi_pb2.CreateVolumeResponse(volume=responses.volume(record))


class VolumeCreation(lifecycle.Creation[VolumeRecord]):
    kind = VolumeRecord
    words = "volume"

    def __init__(self, request: VolumeRequest) -> None:
        self.name = request.name
        self.normalized = request.normalized
        self._request = request

    def fingerprint(self) -> Any:
        return self._request.whole()

    def sources(self) -> Sequence[str]:
        return [self._request.source.resource] if self._request.source else []

    def differences(self, context: ControllerContext, record: VolumeRecord) -> list[str]:
        intent = intent_of(record)
        differing = [name for name, value in self.normalized.items() if intent.request.get(name) != value]
        if not sizes.fits(luks_headers.usable_gib(record), self._request.capacity):
            differing.append(f"capacity_range (it has {luks_headers.usable_gib(record)} GiB)")
        if not topology.is_accessible(intent.topology, self._request.requirements):
            differing.append("accessibility_requirements")
        return differing

    def create(self, context: ControllerContext, object_id: str, intent: Intent) -> VolumeRecord:
        placement = place_volume(context, self._request)
        intent = replace(
            intent,
            context=_volume_context(self._request, placement),
            topology=topology.accessible_part(placement.backend.topology, self._request.requirements),
        )
        try:
            with (
                full_pool_errors(
                    placement.backend, pool=placement.pool, gib=placement.size, extra_specs=placement.extra_specs
                ),
                driver_errors(f"creating volume {object_id} ({self.name})"),
            ):
                volume = self._create_at(context, placement, object_id, intent)
        except BaseException:
            placement.release()
            raise
        record: VolumeRecord = volume.record
        return record

    def _create_at(self, context: ControllerContext, placement: Placement, volume_id: str, intent: Intent) -> Volume:
        titles = make_labels(self._request.given_parameters, context.configuration, csi_name=self.name, owner=CLAIM)
        attributes: dict[str, Any] = {
            "id": volume_id,
            "name": titles.name,
            "description": titles.description,
            "metadata": titles.metadata,
            "admin_metadata": filesystem_records.copy_metadata(
                context.store, snapshot=placement.snapshot, volume=placement.volume
            )
            | luks_headers.marks(placement.header)
            | requested_sizes.volume_marks(self._request.capacity.required_bytes),
            "extra_specs": placement.extra_specs,
            "qos_specs": placement.qos_specs,
            "multiattach": self._request.needs_multiattach,
            "intent": intent,
        }
        if placement.snapshot is not None:
            snapshot = storage_objects.snapshot(context, placement.snapshot)
            return snapshot.create_volume(size=placement.size, **attributes)
        if placement.volume is not None:
            return storage_objects.volume(context, placement.volume).clone(size=placement.size, **attributes)
        return placement.backend.create_volume(placement.size, pool_name=placement.pool, **attributes)


def _volume_context(request: VolumeRequest, placement: Placement) -> dict[str, str]:
    """What the node needs to know at once, and nothing secret."""
    volume_context = {"cinderbox.io/backend": placement.backend.name}
    if request.parameters.mkfs_options:
        volume_context["mkfs_options"] = request.parameters.mkfs_options
    if request.parameters.oldest_kernel:
        volume_context["oldest_kernel"] = request.parameters.oldest_kernel
    if encryption := request.parameters.encryption:
        volume_context["encryption"] = encryption["provider"]
    return volume_context
