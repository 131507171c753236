"""The Identity service: what is claimed follows what is offered."""

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError, failed_precondition
from csi_plugin.server.identity import IdentityService

Service = csi_pb2.PluginCapability.Service
Expansion = csi_pb2.PluginCapability.VolumeExpansion


def identity(*offers: str) -> IdentityService:
    return IdentityService("csi.cinderbox.io", offers=lambda: frozenset(offers), is_ready=lambda: True)


def claimed(service: IdentityService) -> tuple[list[int], list[int]]:
    """(Services, ways of expansion)."""
    answer = service.GetPluginCapabilities(csi_pb2.GetPluginCapabilitiesRequest(), None)
    services = [claim.service.type for claim in answer.capabilities if claim.HasField("service")]
    return services, [
        claim.volume_expansion.type for claim in answer.capabilities if claim.HasField("volume_expansion")
    ]


def test_info_names_driver_and_version() -> None:
    info = identity().GetPluginInfo(csi_pb2.GetPluginInfoRequest(), None)

    assert info.name == "csi.cinderbox.io"
    assert info.vendor_version


def test_claims_follow_what_is_offered() -> None:
    assert claimed(identity()) == ([Service.CONTROLLER_SERVICE, Service.VOLUME_ACCESSIBILITY_CONSTRAINTS], [])
    assert claimed(identity("groups", "snapshot_topology", "expansion", "expansion_online")) == (
        [
            Service.CONTROLLER_SERVICE,
            Service.GROUP_CONTROLLER_SERVICE,
            Service.VOLUME_ACCESSIBILITY_CONSTRAINTS,
            Service.SNAPSHOT_ACCESSIBILITY_CONSTRAINTS,
        ],
        [Expansion.ONLINE],
    )


def test_expansion_is_offline_where_online_expansion_is_switched_off() -> None:
    assert claimed(identity("expansion"))[1] == [Expansion.OFFLINE]


def test_probe_tells_whether_it_is_ready_or_what_is_missing() -> None:
    service = identity()
    assert service.Probe(csi_pb2.ProbeRequest(), None).ready.value
    service.is_ready = lambda: False
    answer = service.Probe(csi_pb2.ProbeRequest(), None)
    assert answer.HasField("ready")
    assert not answer.ready.value

    def broken() -> bool:
        raise failed_precondition("the metadata store does not work")

    service.is_ready = broken
    with pytest.raises(RpcError) as caught:
        service.Probe(csi_pb2.ProbeRequest(), None)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
