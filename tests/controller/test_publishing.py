"""ControllerPublishVolume and ControllerUnpublishVolume."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from csi_plugin.controller import lost_nodes
from csi_plugin.persistence.records import ConnectionRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2, node_registry_pb2, sealed_box
from tests.controller.plugin import Plugin, Serve, unsealed
from tests.support.csi import GIB, Mode, block, capability, fails, mount
from tests.support.project import LOOP_DRIVER

Code = grpc.StatusCode


def test_published_volume_is_listed_with_its_node_and_its_connection_is_readable_for_that_node_alone(
    plugin: Plugin,
) -> None:
    key, other_key = plugin.add_node("node-1"), plugin.add_node("node-2")
    volume = plugin.create("pvc-1", 2)

    context = plugin.publish(volume.volume_id, "node-1")

    plan = json.loads(unsealed(context, key, node_id="node-1", volume_id=volume.volume_id))
    assert plan["driver_volume_type"] == "local"
    assert plan["data"]["device_path"].endswith(f"volume-{volume.volume_id}")
    assert (plan["volume_id"], plan["size"], plan["attach_mode"]) == (volume.volume_id, 2, "rw")
    with pytest.raises(sealed_box.SealedBoxError):
        unsealed(context, other_key, node_id="node-1", volume_id=volume.volume_id)
    entry = plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries[0]
    assert list(entry.status.published_node_ids) == ["node-1"]


def test_nodes_are_told_where_no_storage_is(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cluster: behind the networks of its services and pods."""
    monkeypatch.setattr(plugin.store, "cluster_networks", lambda: ["10.96.0.0/12"])
    key = plugin.add_node("node-1")
    volume = plugin.create("pvc-1")
    context = plugin.publish(volume.volume_id, "node-1")
    plan = json.loads(unsealed(context, key, node_id="node-1", volume_id=volume.volume_id))
    assert plan["cluster_networks"] == ["10.96.0.0/12"]


def test_connection_can_be_asked_for_again_after_the_node_has_a_new_key(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume = plugin.create("pvc-1")
    with fails(Code.NOT_FOUND, "not published"):
        plugin.nodes.GetConnection(node_registry_pb2.GetConnectionRequest(node_id="node-1", volume_id=volume.volume_id))
    plugin.publish(volume.volume_id, "node-1")
    new_key = plugin.add_node("node-1")

    request = node_registry_pb2.GetConnectionRequest(node_id="node-1", volume_id=volume.volume_id)
    sealed = plugin.nodes.GetConnection(request).sealed_connection
    plan = sealed_box.open_from_controller(new_key, sealed, associated_data=f"node-1/{volume.volume_id}".encode())
    assert json.loads(plan)["volume_id"] == volume.volume_id


def test_a_key_that_was_rotated_comes_with_the_next_answer(serve: Serve, tmp_path: Path) -> None:
    plugin = serve(driver="tests.controller.drivers.KeyringDriver")
    (backend,) = plugin.backends.ready()
    backend.driver.keyring_file = str(tmp_path / "keyring")
    key, volume = plugin.add_node("node-1"), plugin.create("pvc-1")
    for secret in ("old", "new"):
        (tmp_path / "keyring").write_text(secret)
        sealed = plugin.publish(volume.volume_id, "node-1")
        assert (
            json.loads(unsealed(sealed, key, node_id="node-1", volume_id=volume.volume_id))["data"]["keyring"] == secret
        )


def test_volume_context_with_entries_of_kubernetes_is_ours(plugin: Plugin) -> None:
    """external-provisioner writes its identity among the volume's attributes, and attachers send all of them."""
    plugin.add_node("node-1")
    volume = plugin.create("pvc-1", parameters={"mkfs_options": "-m 1"})

    def publish(**context: str) -> None:
        plugin.controller.ControllerPublishVolume(
            csi_pb2.ControllerPublishVolumeRequest(
                volume_id=volume.volume_id, node_id="node-1", volume_capability=mount(), volume_context=context
            )
        )

    assert volume.volume_context
    publish(**volume.volume_context, **{"storage.kubernetes.io/csiProvisionerIdentity": "1-csi.cinderbox.io"})
    with fails(Code.INVALID_ARGUMENT, "volume_context"):
        publish(**{"storage.kubernetes.io/csiProvisionerIdentity": "1-csi.cinderbox.io", "mkfs_options": "-m 2"})


def test_encryption_goes_to_the_node(plugin: Plugin) -> None:
    key = plugin.add_node("node-1")
    volume = plugin.create("pvc-1", parameters={"encryption": "luks2", "encryption_key_size": "512"})
    assert volume.volume_context["encryption"] == "luks2"

    plan = json.loads(
        unsealed(plugin.publish(volume.volume_id, "node-1"), key, node_id="node-1", volume_id=volume.volume_id)
    )
    assert plan["encryption"] == {"provider": "luks2", "key_size": "512", "header_gib": 1}


def test_repeat_is_ok_and_differing_repeat_already_exists(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")

    plugin.publish(volume_id, "node-1")
    assert len(plugin.store.find(ConnectionRecord)) == 1
    with fails(Code.ALREADY_EXISTS, "node-1"):
        plugin.publish(volume_id, "node-1", readonly=True)
    with fails(Code.ALREADY_EXISTS, "SINGLE_NODE_SINGLE_WRITER"):
        plugin.publish(volume_id, "node-1", volume_capability=mount(Mode.SINGLE_NODE_SINGLE_WRITER))


def test_errors(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id

    for volume, node, fields, code, word in [
        ("", "node-1", {}, Code.INVALID_ARGUMENT, "volume_id is required"),
        (volume_id, "", {}, Code.INVALID_ARGUMENT, "node_id is required"),
        (volume_id, "node-1", {"volume_capability": None}, Code.INVALID_ARGUMENT, "volume_capability is required"),
        (volume_id, "node-1", {"volume_capability": mount(0)}, Code.INVALID_ARGUMENT, "access_mode"),
        (volume_id, "node-1", {"volume_context": {"a": "b"}}, Code.INVALID_ARGUMENT, "volume_context"),
        ("nothing", "node-1", {}, Code.NOT_FOUND, "volume_id"),
        (volume_id, "node-2", {}, Code.NOT_FOUND, "node_id"),
        (volume_id, "node\x00", {}, Code.NOT_FOUND, "node_id"),
        (volume_id, "x" * 257, {}, Code.INVALID_ARGUMENT, "256"),
    ]:
        with fails(code, word):
            plugin.publish(volume, node, **fields)
    assert plugin.store.find(ConnectionRecord) == []


def test_volume_of_one_node_is_refused_on_a_second(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    plugin.add_node("node-2")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")

    with fails(Code.FAILED_PRECONDITION, "node-1"):
        plugin.publish(volume_id, "node-2")
    with fails(Code.FAILED_PRECONDITION, "node-1"):
        plugin.publish(volume_id, "node-2", volume_capability=block(Mode.MULTI_NODE_MULTI_WRITER))
    plugin.unpublish(volume_id, "node-1")
    plugin.publish(volume_id, "node-2")


def test_volume_for_several_nodes(plugin: Plugin) -> None:
    writers = block(Mode.MULTI_NODE_MULTI_WRITER)
    for node in ("node-1", "node-2", "node-3"):
        plugin.add_node(node)
    volume_id = plugin.create("pvc-1", volume_capabilities=[writers]).volume_id

    plugin.publish(volume_id, "node-1", volume_capability=writers)
    plugin.publish(volume_id, "node-2", volume_capability=writers)
    with fails(Code.FAILED_PRECONDITION, "node-1, node-2"):
        plugin.publish(volume_id, "node-3", volume_capability=block())
    entry = plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries[0]
    assert list(entry.status.published_node_ids) == ["node-1", "node-2"]

    plugin.unpublish(volume_id)  # from all nodes
    assert plugin.store.find(ConnectionRecord) == []


def test_single_writer_among_several_nodes(plugin: Plugin) -> None:
    mode = block(Mode.MULTI_NODE_SINGLE_WRITER)
    for node in ("node-1", "node-2"):
        plugin.add_node(node)
    volume_id = plugin.create("pvc-1", volume_capabilities=[mode]).volume_id
    plugin.publish(volume_id, "node-1", volume_capability=mode)

    with fails(Code.FAILED_PRECONDITION, "single writer on node-1"):
        plugin.publish(volume_id, "node-2", volume_capability=mode)
    writers = block(Mode.MULTI_NODE_MULTI_WRITER)
    with fails(Code.FAILED_PRECONDITION, "single writer on node-1"):
        plugin.publish(volume_id, "node-2", volume_capability=writers)
    plugin.publish(volume_id, "node-2", volume_capability=mode, readonly=True)
    # Nor does a second writer come to one that was the single one only afterwards.
    plugin.unpublish(volume_id)
    plugin.publish(volume_id, "node-1", volume_capability=writers)
    with fails(Code.FAILED_PRECONDITION, "single writer on node-1"):
        plugin.publish(volume_id, "node-2", volume_capability=mode)


def test_a_volume_for_one_node_is_not_published_for_several(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    with fails(Code.INVALID_ARGUMENT, "volume_capability.access_mode", "single node"):
        plugin.publish(volume_id, "node-1", volume_capability=block(Mode.MULTI_NODE_MULTI_WRITER))
    with fails(Code.INVALID_ARGUMENT, "volume_capability.access_mode"):
        plugin.publish(volume_id, "node-1", volume_capability=mount(Mode.MULTI_NODE_READER_ONLY))
    plugin.publish(volume_id, "node-1", volume_capability=block())


UNMOUNTABLE = [
    (capability("ntfs"), "fs_type must be one of"),
    (capability("ext4", flags=("noatime nodev",)), "mount_flags"),
    (
        csi_pb2.VolumeCapability(
            access_mode=Mode(mode=Mode.SINGLE_NODE_WRITER),
            mount=csi_pb2.VolumeCapability.MountVolume(volume_mount_group="1000"),
        ),
        "volume_mount_group",
    ),
]


@pytest.mark.parametrize(("unmountable", "words"), UNMOUNTABLE)
def test_what_no_node_mounts_is_refused(plugin: Plugin, unmountable: csi_pb2.VolumeCapability, words: str) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    with fails(Code.INVALID_ARGUMENT, "volume_capabilities.mount", words):
        plugin.create("pvc-2", volume_capabilities=[unmountable])
    with fails(Code.INVALID_ARGUMENT, "volume_capability.mount", words):
        plugin.publish(volume_id, "node-1", volume_capability=unmountable)
    with fails(Code.INVALID_ARGUMENT, "volume_capability.mount", words):
        plugin.controller.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(
                volume_id=volume_id,
                capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB),
                volume_capability=unmountable,
            )
        )
    with fails(Code.INVALID_ARGUMENT, "volume_capabilities.mount", words):
        plugin.controller.ValidateVolumeCapabilities(
            csi_pb2.ValidateVolumeCapabilitiesRequest(volume_id=volume_id, volume_capabilities=[unmountable])
        )


def test_a_mount_flag_that_no_kernel_knows_is_not_confirmed(plugin: Plugin) -> None:
    """Nor would CreateVolume take it."""
    volume_id = plugin.create("pvc-1").volume_id

    def validate(*flags: str) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        return plugin.controller.ValidateVolumeCapabilities(
            csi_pb2.ValidateVolumeCapabilitiesRequest(
                volume_id=volume_id, volume_capabilities=[capability("xfs", flags=flags)]
            )
        )

    assert validate("noatime", "nouuid").HasField("confirmed")
    refused = validate("noatime", "nobarier")
    assert not refused.HasField("confirmed")
    assert refused.message.startswith("volume_capabilities.mount.mount_flags: 'nobarier' is no mount flag of xfs; did")


@pytest.mark.parametrize("driver", [LOOP_DRIVER, "tests.controller.drivers.WritingDriver"])
def test_readers_get_a_read_only_connection(serve: Serve, driver: str) -> None:
    """Whatever the driver says of its own accord."""
    plugin = serve(driver=driver)
    readers = mount(Mode.MULTI_NODE_READER_ONLY)
    key = plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1", volume_capabilities=[readers]).volume_id

    for _ in range(2):
        context = plugin.publish(volume_id, "node-1", volume_capability=readers)

        assert plugin.store.find(ConnectionRecord)[0].attach_mode == "ro"
        plan = json.loads(unsealed(context, key, node_id="node-1", volume_id=volume_id))
        assert (plan["attach_mode"], plan["data"]["access_mode"]) == ("ro", "ro")


def test_unpublish_is_ok_whatever_is_gone(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")

    plugin.unpublish("nothing", "node-1")
    plugin.unpublish(volume_id, "no-such-node")
    plugin.unpublish("no\x00thing", "no\x00de")
    assert len(plugin.store.find(ConnectionRecord)) == 1
    plugin.unpublish(volume_id, "node-1")
    plugin.unpublish(volume_id, "node-1")
    assert plugin.store.find(ConnectionRecord) == []
    assert plugin.store.get(VolumeRecord, volume_id).status == "available"
    with fails(Code.INVALID_ARGUMENT, "volume_id is required"):
        plugin.unpublish("")


def test_interrupted_publish_is_repeated(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")
    record = plugin.store.find(ConnectionRecord)[0]
    record.attach_status = "attaching"
    record.connection_info = None
    plugin.store.update(record)

    plugin.publish(volume_id, "node-1")

    (repeated,) = plugin.store.find(ConnectionRecord)
    assert (repeated.id, repeated.attach_status) == (record.id, "attached")
    assert repeated.connection_info["conn"]["driver_volume_type"] == "local"


def test_initiator_of_another_live_node_is_refused(serve: Serve) -> None:
    plugin = serve(node_lifetime_seconds=0)
    names = {"initiator": "iqn.2020-01.org.example:a", "nqn": "nqn.a"}
    plugin.add_node("node-1", **names, wwpns=["50014380186b3f65"], sdc_guid="B87D1B34-7B6B")
    plugin.add_node("node-2", initiator="iqn.2020-01.org.example:b")

    plugin.add_node("node-3", nqn="nqn.a")  # node-1 has nothing and has not been heard of for long

    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")
    for same, name in (
        ('{"wwpns": ["50014380186B3F65"]}', "50014380186b3f65"),
        ('{"sdc_guid": "b87d1b34-7b6b"}', "b87d1b34-7b6b"),  # of PowerFlex, which knows hosts by nothing else
    ):
        request = node_registry_pb2.RegisterNodeRequest(node_id="node-4", connector_json=same, public_key=b"k" * 32)
        with fails(Code.FAILED_PRECONDITION, "node-1", name):
            plugin.nodes.RegisterNode(request)
    plugin.add_node("node-1", **names)  # itself, again


def test_a_node_is_known_to_storage_by_its_own_name_and_address(plugin: Plugin) -> None:
    plugin.add_node("node-1", ip="192.0.2.1")
    lies = {"host": "node-1", "initiator": "iqn.2020-01.org.example:b", "os_type": "linux2"}
    plugin.add_node("node-2", ip="192.0.2.2", mountpoint="/dev/vdb", instance="other", **lies)
    volume_id = plugin.create("pvc-1").volume_id

    plugin.publish(volume_id, "node-2")

    (connection,) = plugin.store.find(ConnectionRecord)
    told = {name: value for name, value in connection.connector.items() if not name.startswith("csi_")}
    assert told == lies | {"host": "node-2", "ip": "192.0.2.2", "mode": "rw"}
    for same in ("192.0.2.1", "::ffff:192.0.2.1"):
        with fails(Code.FAILED_PRECONDITION, "node node-1 has 192.0.2.1 too", "address"):
            plugin.nodes.RegisterNode(
                node_registry_pb2.RegisterNodeRequest(
                    node_id="node-3", connector_json=json.dumps({"ip": same}), public_key=b"k" * 32
                )
            )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gke-production-default-pool-3f0b2d5c-a1b2", "gke-production-default-pool-3f0b2d5c-c3d4"),
        ("worker-0.rack-a.example.org", "worker-0.rack-b.example.org"),
        ("worker:0", "worker:1"),
    ],
)
def test_drivers_that_cut_names_take_no_two_nodes_for_one_host(plugin: Plugin, one: str, other: str) -> None:
    """By Cinder's own functions: of 3PAR, PowerMax and DS8000."""
    from cinder.volume.drivers.dell_emc.powermax.utils import PowerMaxUtils
    from cinder.volume.drivers.hpe.hpe_3par_common import HPE3PARCommon
    from cinder.volume.drivers.ibm.ibm_storage.ds8k_helper import filter_alnum

    hosts = []
    for node_id in (one, other):
        plugin.add_node(node_id)
        volume_id = plugin.create(f"pvc-{node_id}").volume_id
        plugin.publish(volume_id, node_id)
        (connection,) = plugin.store.find(ConnectionRecord, volume_id=volume_id)
        hosts.append(connection.connector["host"])
        plugin.unpublish(volume_id, node_id)
    fqdn = SimpleNamespace(unique_fqdn_network=True)
    cuts: tuple[Callable[[str], str], ...] = (
        lambda host: HPE3PARCommon._safe_hostname(None, {"host": host}, fqdn),
        PowerMaxUtils.get_host_short_name_from_fqn,
        lambda host: filter_alnum(host)[:32],
    )
    for cut in cuts:
        assert len({cut(host) for host in hosts}) == len(hosts), hosts
    assert all(host.startswith(one[:6]) for host in hosts)


def test_a_node_keeps_the_host_name_that_its_volumes_were_exported_under(plugin: Plugin) -> None:
    """As storage has it from an earlier version; unless it is another node's."""
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(2)]
    for node_id, name, expected in (
        ("node-1", "node-1.example.org", "node-1.example.org"),
        ("node-2", "node-1", "node-2"),
    ):
        plugin.add_node(node_id)
        plugin.publish(volumes[0], node_id)
        (connection,) = plugin.store.find(ConnectionRecord)
        connection.connector["host"] = name
        plugin.store.update(connection)

        plugin.publish(volumes[1], node_id)

        (second,) = plugin.store.find(ConnectionRecord, volume_id=volumes[1])
        assert second.connector["host"] == expected
        for volume_id in volumes:
            plugin.unpublish(volume_id, node_id)


def test_full_node_takes_no_more(plugin: Plugin) -> None:
    plugin.add_node("node-1", max_volumes=2)
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(6)]

    def outcome(volume_id: str) -> Code:
        try:
            plugin.publish(volume_id, "node-1")
        except grpc.RpcError as error:
            return error.code()
        return Code.OK

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(outcome, volumes))
    assert sorted(code.name for code in outcomes) == ["OK"] * 2 + ["RESOURCE_EXHAUSTED"] * 4
    inside, outside = volumes[outcomes.index(Code.OK)], volumes[outcomes.index(Code.RESOURCE_EXHAUSTED)]
    plugin.publish(inside, "node-1")  # a repeat needs no place of its own
    with fails(Code.RESOURCE_EXHAUSTED, "node-1", "maximum of 2"):
        plugin.publish(outside, "node-1")
    plugin.unpublish(inside, "node-1")
    plugin.publish(outside, "node-1")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"max_volumes": -1}, "max_volumes"),
        ({"node_id": ""}, "node_id"),
        ({"node_id": "x" * 256}, "node_id"),
        ({"node_id": "a\x00"}, "node_id"),
        ({"public_key": b"short"}, "public_key"),
        ({"connector_json": "[]"}, "connector_json"),
        ({"connector_json": "{"}, "connector_json"),
        ({"connector_json": "[" * 50_000}, "connector_json"),
        ({"connector_json": '{"initiator": ["iqn.a"]}'}, "connector_json: initiator must be a text"),
        ({"connector_json": '{"initiator": "iqn.a iqn.b"}'}, "connector_json: initiator must be a text"),
        ({"connector_json": '{"ip": "node1; reboot"}'}, "connector_json: ip must be an IPv4 or IPv6 address"),
        ({"connector_json": '{"ip": "192.0.2.001"}'}, "connector_json: ip must be an IPv4 or IPv6 address"),
        ({"connector_json": '{"ip": "node-2.example.org"}'}, "connector_json: ip must be an IPv4 or IPv6 address"),
        ({"connector_json": f'{{"wwpns": {["5"] * 257}}}'.replace("'", '"')}, "wwpns must be a list of at most 256"),
    ],
)
def test_registration_is_validated(plugin: Plugin, fields: dict[str, object], word: str) -> None:
    valid = {"node_id": "node-1", "connector_json": "{}", "public_key": b"k" * 32}
    with fails(Code.INVALID_ARGUMENT, word):
        plugin.nodes.RegisterNode(node_registry_pb2.RegisterNodeRequest(**(valid | fields)))


def test_a_host_whose_firmware_has_no_uuid_is_registered(plugin: Plugin) -> None:
    """Firmware says so in words, which os-brick passes on."""
    plugin.add_node("node-1", **{"system uuid": "Not Settable", "uuid": "", "initiator": "iqn.a"})
    plugin.publish(plugin.create("pvc-1").volume_id, "node-1")
    (connection,) = plugin.store.find(ConnectionRecord)
    assert (connection.connector or {})["initiator"] == "iqn.a"
    assert "system uuid" not in (connection.connector or {})


SHARE = "tests.controller.drivers.ShareDriver"


def test_a_volume_on_a_share_stays_on_a_node_that_lives_and_has_it_staged(serve: Serve) -> None:
    """As with the taint of a node that is out of service, set for one that is not."""
    plugin = serve(driver=SHARE)
    plugin.add_node("node-1")
    plugin.add_node("node-2")
    volume_id = plugin.create("pvc-1").volume_id
    assert plugin.publish(volume_id, "node-1")["unfenced"] == "true"
    plugin.add_node("node-1", csi_staged_volumes=[volume_id])
    for node_id in ("node-1", ""):
        with fails(Code.FAILED_PRECONDITION, "node_id: node node-1 is alive", "staged", f"release {volume_id} node-1"):
            plugin.unpublish(volume_id, node_id)
    with fails(Code.FAILED_PRECONDITION, "published to node-1"):
        plugin.publish(volume_id, "node-2")

    plugin.add_node("node-1", csi_staged_volumes=["another"])  # it has unstaged it
    plugin.unpublish(volume_id, "node-1")
    plugin.publish(volume_id, "node-2")
    (connection,) = plugin.store.find(ConnectionRecord)
    assert connection.node_id == "node-2"
    assert "csi_staged_volumes" not in (connection.connector or {})


def test_a_volume_on_a_share_is_taken_from_a_node_that_is_silent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = serve(driver=SHARE)
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")
    plugin.add_node("node-1", csi_staged_volumes=[volume_id])
    monkeypatch.setattr(lost_nodes, "SILENCE_SECONDS", -1)
    plugin.unpublish(volume_id, "node-1")
    assert plugin.store.find(ConnectionRecord) == []


def test_other_storage_is_told_that_the_node_has_lost_its_volume(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    assert "unfenced" not in plugin.publish(volume_id, "node-1")
    plugin.unpublish(volume_id, "node-1")
