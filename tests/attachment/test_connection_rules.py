"""Connection information by protocol: what drivers return passes, and what gets at a host is refused by its field."""

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csi_plugin.attachment import connection_rules
from csi_plugin.attachment.connection_rules import ConnectionRefused
from csi_plugin.attachment.storage_networks import CLUSTER_NETWORKS, STORAGE_NETWORKS

KEY = "AQBIbWVkc2VydmljZXM5MDEyMzQ1Njc4OTA=="
IQN = "iqn.2010-06.com.purestorage:flasharray.3caf76749b33b6ad"
NQN = "nqn.2014-08.org.nvmexpress:uuid:13730573-d5d7-446e-9956-93d86a1d6b9a"

# As Cinder's drivers return them.
CONNECTIONS: dict[str, dict[str, Any]] = {
    "iscsi": {
        "target_discovered": False,
        "target_portal": "192.0.2.1:3260",
        "target_portals": ["192.0.2.1:3260", "[2001:db8::1]:3260,2", "array.example.org:860"],
        "target_iqn": IQN,
        "target_iqns": [IQN] * 3,
        "target_lun": 1,
        "target_luns": [1, 0, 16384],
        "auth_method": "CHAP",
        "auth_username": "volume 1",
        "auth_password": "p@ss w0rd'\"$;é",
        "qos_specs": None,
        "access_mode": "rw",
        "addressing_mode": "SAM2",
    },
    "fibre_channel": {
        "target_wwn": ["500a098280feeba5", "50:0a:09:83:80:fe:eb:a5"],
        "target_lun": 7,
        "initiator_target_map": {"21000024ff406cc3": ["500a098280feeba5"]},
        "discard": True,
    },
    "nvmeof": {
        "target_nqn": NQN,
        "host_nqn": NQN,
        "portals": [["192.0.2.1", 4420, "tcp"], ["2001:db8::1", "4420", "RoCEv2"]],
        "vol_uuid": "13730573-d5d7-446e-9956-93d86a1d6b9a",
        "ns_id": 1,
    },
    "nvme": {"nqn": NQN, "target_portal": "192.0.2.1", "target_port": 4420, "transport_type": "rdma", "ns_id": "10"},
    "rbd": {
        "name": "volumes/volume-1",
        "hosts": ["192.0.2.1", "[2001:db8::2]"],
        "ports": ["6789", "3300"],
        "cluster_name": "ceph",
        "auth_enabled": True,
        "auth_username": "cinder",
        "keyring": f'[client.cinder]\n\tkey = {KEY}\n\tcaps mon = "profile rbd"\n# from the cluster\n',
        "map_options": "ms_mode=prefer-crc,queue_depth=256",
    },
    "nfs": {
        "export": "[2001:db8::1]:/exports/volumes",
        "name": "volume-1",
        "format": "raw",
        "options": "-o vers=4.1,hard,sec=krb5p,rsize=1048576",
    },
    "quobyte": {"export": "quobyte://registry1,192.0.2.1:7861/volumes", "name": "volume-1", "options": ""},
    "local": {"device_path": "/dev/group/volume-1"},
    "vzstorage": {"export": "192.0.2.1,[2001:db8::1]:2510:/cluster:secret", "name": "volume-1"},
    "storpool": {"volume": "~abcd.b.xyz", "client_id": 1, "access_mode": "rw"},
    "scaleio": {"scaleIO_volname": "xq5+f/lSTWeK0A==", "scaleIO_volume_id": "4c5e", "serverIP": "192.0.2.1"},
    "lightos": {
        "lightos_nodes": {
            "192.0.2.1": {"target_portal": "192.0.2.1", "target_port": 8009, "transport_type": "tcp"},
            "2001:db8::1": {"target_portal": "2001:db8::1", "target_port": 8009, "transport_type": "tcp"},
        },
        "uuid": "13730573-d5d7-446e-9956-93d86a1d6b9a",
        "subsysnqn": NQN,
    },
    "glusterfs": {
        "export": "192.0.2.1:/volumes",
        "name": "volume-1",
        "options": "-o backup-volfile-servers=192.0.2.2:server3,log-level=WARNING",
    },
    "something_new": {"whatever": {"it": ["needs"]}},
}


def connection(protocol: str, **changes: Any) -> dict[str, Any]:
    return {
        "driver_volume_type": protocol,
        "mount_point_base": "/var/lib/cinder/mnt",
        "data": copy.deepcopy(CONNECTIONS[protocol]) | changes,
    }


@pytest.mark.parametrize("protocol", CONNECTIONS)
def test_what_drivers_return_is_accepted(protocol: str) -> None:
    connection_rules.check(connection(protocol))


@pytest.mark.parametrize(
    ("protocol", "changes", "field"),
    [
        ("iscsi", {"target_iqn": "iqn.2010-06.com.example:../../etc"}, "data.target_iqn"),
        ("iscsi", {"target_portals": ["192.0.2.1"] * 3}, "data.target_portals"),
        ("iscsi", {"target_portal": "-oProxy:3260"}, "data.target_portal"),
        ("iscsi", {"target_portal": "192.0.2.1:99999"}, "data.target_portal"),
        ("iscsi", {"target_lun": "1 -o"}, "data.target_lun"),
        ("iscsi", {"target_luns": [1]}, "as many entries"),
        ("iscsi", {"auth_password": "a\nnode.startup = automatic"}, "data.auth_password"),
        ("iscsi", {"target_portal": None, "target_portals": []}, "must have target_portal or target_portals"),
        ("fibre_channel", {"target_wwn": ["*"]}, "data.target_wwn"),
        ("fibre_channel", {"initiator_target_map": {"2100*": []}}, "data.initiator_target_map"),
        ("nvmeof", {"target_nqn": "nqn/../x"}, "data.target_nqn"),
        ("nvmeof", {"portals": [["192.0.2.1", 4420, "exec"]]}, "data.portals"),
        ("nvmeof", {"volume_replicas": [{"target_nqn": "--"}]}, r"data.volume_replicas\[0\].target_nqn"),
        ("rbd", {"name": "volumes/volume-1@--exec"}, "data.name"),
        ("rbd", {"cluster_name": "../tmp/x"}, "data.cluster_name"),
        ("rbd", {"keyring": f"[client.a]\nkey = {KEY}\nadmin socket = /etc/cron.d/x"}, "data.keyring .*line 3"),
        ("rbd", {"keyring": f"[client.a]\rplugin dir = /tmp\rkey = {KEY}"}, "data.keyring .*line 2"),
        ("rbd", {"keyring": f"# \\\nplugin dir = /tmp\nkey = {KEY}"}, "data.keyring .*line 1"),
        ("rbd", {"keyring": "[global]\nlog file = /etc/x"}, "data.keyring .*line 1"),
        ("rbd", {"map_options": "secret=/etc/shadow"}, "data.map_options"),
        ("nfs", {"export": "-oexec:/x"}, "data.export"),
        ("nfs", {"export": "server:/../etc"}, "data.export"),
        ("nfs", {"export": "/dev/sda"}, "data.export"),
        ("nfs", {"name": "../volume"}, "data.name"),
        ("nfs", {"options": "-o vers=4.1,suid"}, "data.options has suid"),
        ("nfs", {"options": "-o bind"}, "data.options has bind"),
        ("nfs", {"options": "--types ext4"}, "data.options"),
        ("nfs", {"options": "-o helper=/tmp/x"}, "data.options has helper"),
        ("nfs", {"options": "-o mounthost=a/b"}, "data.options has mounthost"),
        ("lightos", {"lightos_nodes": {"a": {"target_portal": "-a -t", "target_port": 1}}}, "data.lightos_nodes"),
        ("lightos", {"lightos_nodes": ["192.0.2.1"]}, "data.lightos_nodes"),
        ("local", {"device_path": "/dev/../etc/shadow"}, "data.device_path"),
        ("local", {"device_path": "volume"}, "data.device_path"),
        ("storpool", {"volume": "../sda"}, "data.volume"),
        ("something_new", {"device_path": "x"}, "data.device_path"),
        ("something_new", {"whatever": "x" * 300_000}, "at most"),
        ("something_new", {"whatever": [[[[[[[[[[]]]]]]]]]]}, "at most"),
    ],
)
def test_what_gets_at_the_host_is_refused_by_its_field(protocol: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConnectionRefused, match=f"^publish_context.connection.*{field}") as refused:
        connection_rules.check(connection(protocol, **changes))
    assert KEY not in str(refused.value)


def test_what_gives_no_device_is_refused() -> None:
    info = {"driver_volume_type": "vmdk", "data": {"config": {"tmp_dir": "/etc/cron.d"}, "volume_id": "x"}}
    with pytest.raises(ConnectionRefused, match="driver_volume_type is vmdk"):
        connection_rules.check(info)


@pytest.mark.parametrize("base", ["/etc", "/dev/shm", "shares", "/var/../etc"])
def test_shares_are_mounted_in_no_folder_of_the_system(base: str) -> None:
    with pytest.raises(ConnectionRefused, match="mount_point_base"):
        connection_rules.check(connection("nfs") | {"mount_point_base": base})


@pytest.mark.parametrize(
    ("protocol", "changes", "environment", "problem"),
    [
        ("iscsi", {}, {CLUSTER_NETWORKS: "192.0.2.0/28,2001:db8::/112"}, "192.0.2.1 is in the cluster's networks"),
        ("nvme", {"target_portal": "::ffff:192.0.2.1"}, {CLUSTER_NETWORKS: "192.0.2.0/28"}, "in the cluster's"),
        ("nvme", {"target_portal": "10.96.0.1"}, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "in the cluster's"),
        ("nvme", {}, {CLUSTER_NETWORKS: "192.0.2.0/28", STORAGE_NETWORKS: "192.0.2.1/32"}, None),
        ("nvme", {"target_portal": "198.51.100.1"}, {STORAGE_NETWORKS: "192.0.2.0/24"}, "none of the networks"),
        ("rbd", {"hosts": ["192.0.2.1"]}, {CLUSTER_NETWORKS: "192.0.2.0/28"}, None),
        ("rbd", {}, {STORAGE_NETWORKS: "192.0.2.0/24"}, "2001:db8::2.* is in none of the networks"),
        ("nfs", {"export": "198.51.100.1:/x"}, {STORAGE_NETWORKS: "192.0.2.0/24"}, "none of the networks"),
        ("nfs", {"options": "-o vers=3,mounthost=10.96.0.1"}, {STORAGE_NETWORKS: "2001:db8::/32"}, "is in none"),
        ("nfs", {"options": "-o mounthost=[fe80::1]"}, {}, "fe80::1 is no address of storage"),
        ("glusterfs", {}, {STORAGE_NETWORKS: "192.0.2.1/32"}, "192.0.2.2 is in none"),
        ("scaleio", {"serverIP": "10.96.0.1"}, {CLUSTER_NETWORKS: "10.96.0.0/12"}, "in the cluster's"),
        ("lightos", {}, {STORAGE_NETWORKS: "192.0.2.0/24"}, "2001:db8::1 is in none"),
        ("nvme", {"target_portal": "169.254.169.254"}, {}, "is no address of storage"),
        ("nvme", {"target_portal": "169.254.1.1"}, {STORAGE_NETWORKS: "169.254.0.0/16"}, None),
        ("nvme", {"target_portal": "localhost"}, {CLUSTER_NETWORKS: "127.0.0.0/8,::1/128"}, "localhost is in the"),
    ],
)
def test_portals_are_where_storage_can_be(
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    changes: dict[str, Any],
    environment: dict[str, str],
    problem: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if problem is None:
        connection_rules.check(connection(protocol, **changes))
        return
    with pytest.raises(ConnectionRefused, match=problem):
        connection_rules.check(connection(protocol, **changes))


hostile = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["../../etc", "-o", "--exec=x", "a b", "a\0b", "a\nb = c", "$(reboot)", "host:/../x"]),
    st.integers(),
    st.lists(st.text(max_size=20), max_size=4),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
_FREE = [
    *itertools.product(
        ["iscsi"], ["auth_username", "auth_password", "discovery_auth_username", "discovery_auth_password"]
    ),
    ("scaleio", "scaleIO_volname"),
]
FIELDS = [(protocol, field) for protocol, fields in connection_rules._TABLE.items() for field in fields]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([found for found in FIELDS if found[0] in CONNECTIONS]), hostile)
def test_no_accepted_text_is_an_option_a_line_or_a_way_up(which: tuple[str, str], value: Any) -> None:
    protocol, field = which
    try:
        connection_rules.check(connection(protocol, **{field: value}))
    except ConnectionRefused:
        return
    for text in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
        assert not set(text) & {"\0", "\n", "\r"}
        if (protocol, field) not in _FREE:
            assert not text.startswith("-") or field == "name"  # which is put behind the share's folder
            assert ".." not in text.split("/")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*CONNECTIONS, "x", ""]), st.dictionaries(st.sampled_from([f for _, f in FIELDS]), json_values))
def test_whatever_it_is_it_is_refused_or_accepted(protocol: str, data: dict[str, Any]) -> None:
    for info in (data, {"driver_volume_type": protocol, "data": data}, {"driver_volume_type": data, "data": data}):
        try:
            connection_rules.check(info)
        except ConnectionRefused:
            continue
