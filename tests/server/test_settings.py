"""Where settings come from, which source counts, and what is said of wrong ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.secrets_in_text import redact_text
from csi_plugin.server.backend_configurations import backend_configurations
from csi_plugin.server.cinder_conf import read_backends
from csi_plugin.server.settings import Settings, SettingsError, load
from csi_plugin.storage.backend_configuration import BackendConfiguration, Repeated

BACKEND = '{"name": "loop", "driver": "loop", "loop_volumes_dir": "/var/lib/vols"}'


def loaded(environment: dict[str, str] | None = None, **arguments: Any) -> Settings:
    return load(
        arguments.pop("flags", None), environment={"X_CSI_BACKEND_CONFIG": BACKEND} | (environment or {}), **arguments
    )


def test_the_first_source_counts(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("node_id: of-the-file\ncluster_name: of-the-file\nlog_level: warning\nproject_id: of-the-file\n")
    environment = {
        "X_CSI_NODE_ID": "of-ember",
        "X_CSI_EMBER_CONFIG": '{"project_id": "of-ember"}',
        "CINDERBOX_NODE_ID": "of-the-environment",
        "CINDERBOX_CLUSTER_NAME": "of-the-environment",
    }
    settings = loaded(environment, flags={"node_id": "of-a-flag"}, file=file)
    assert settings.node_id == "of-a-flag"
    assert settings.cluster_name == "of-the-environment"
    assert settings.project_id == "of-ember"
    assert settings.log_level == "warning"
    assert loaded({"CINDERBOX_SETTINGS": str(file)}).node_id == "of-the-file"


def test_the_issue_s_command_line() -> None:
    settings = load(
        environment={
            "CSI_ENDPOINT": "unix:///run/x.sock",
            "CSI_MODE": "all",
            "X_CSI_PERSISTENCE_CONFIG": '{"storage":"db","connection":"sqlite:////var/lib/x.db"}',
            "X_CSI_BACKEND_CONFIG": '{"name":"loop","driver":"csi_plugin.storage.drivers.loop.LoopDriver",'
            '"loop_volumes_dir":"/var/lib/vols"}',
        }
    )
    assert (settings.endpoint, settings.mode) == ("unix:///run/x.sock", "all")
    assert settings.persistence == {"storage": "db", "connection": "sqlite:////var/lib/x.db"}
    assert settings.backends == [
        {
            "volume_backend_name": "loop",
            "volume_driver": "csi_plugin.storage.drivers.loop.LoopDriver",
            "loop_volumes_dir": "/var/lib/vols",
        }
    ]


def test_every_variable_of_ember_csi() -> None:
    ember = {
        "project_id": "project",
        "user_id": "user",
        "plugin_name": "storage",
        "root_helper": "doas",
        "request_multipath": True,
        "file_locks_path": "$state_path/locks",
        "state_path": "/var/lib/ember",
        "enable_probe": True,
        "grpc_workers": 30,
        "slow_operations": True,
        "disabled": ["clone", "block_rwx"],
        "debug": True,
        "disable_logs": True,
        "my_ip": "192.0.2.7",
    }
    settings = loaded(
        {
            "CSI_ENDPOINT": "[::]:50051",
            "CSI_MODE": "CONTROLLER",
            "X_CSI_SPEC_VERSION": "1.1",
            "X_CSI_STORAGE_NW_IP": "192.0.2.8",
            "X_CSI_NODE_ID": "node-7",
            "X_CSI_PERSISTENCE_CONFIG": '{"storage": "memory_db"}',
            "X_CSI_EMBER_CONFIG": json.dumps(ember),
            "X_CSI_DEFAULT_MOUNT_FS": "xfs",
            "X_CSI_SYSTEM_FILES": "/files.tar",
            "X_CSI_DEBUG_MODE": "",
            "X_CSI_ABORT_DUPLICATES": "true",
            "X_CSI_TOPOLOGIES": '[{"zone": "a"}]',
            "X_CSI_NODE_TOPOLOGY": '{"zone": "a"}',
        }
    )
    expected = {
        "endpoint": "[::]:50051",
        "mode": "controller",
        "storage_network_ip": "192.0.2.8",
        "node_id": "node-7",
        "persistence": {"storage": "memory_db"},
        "project_id": "project",
        "user_id": "user",
        "driver_name": "storage.ember-csi.io",
        "root_helper": "doas",
        "request_multipath": True,
        "file_locks_path": Path("/var/lib/ember/locks"),
        "state_dir": Path("/var/lib/ember"),
        "workers": 30,
        "disabled_features": ["clone", "block_rwx"],
        "log_level": "debug",
        "disable_logs": True,
        "cinder_options": {"my_ip": "192.0.2.7"},
        "default_filesystem": "xfs",
        "system_files": Path("/files.tar"),
        "topologies": [{"zone": "a"}],
        "node_topology": {"zone": "a"},
    }
    assert {name: getattr(settings, name) for name in expected} == expected


def test_short_names_of_backends_and_drivers() -> None:
    backends = [
        {"name": "ceph", "driver": "RBD", "multipath": True},
        {"name": "volumes", "driver": "lvmvolume"},
        {"name": "files", "driver": "LoopDriver"},
        {"name": "own", "driver": "some.package.Driver"},
    ]
    configurations = backend_configurations(loaded({"X_CSI_BACKEND_CONFIG": json.dumps(backends)}))
    assert [configuration.driver for configuration in configurations] == [
        "cinder.volume.drivers.rbd.RBDDriver",
        "cinder.volume.drivers.lvm.LVMVolumeDriver",
        "csi_plugin.storage.drivers.loop.LoopDriver",
        "some.package.Driver",
    ]
    assert configurations[0].options["use_multipath_for_image_xfer"] is True


CINDER_CONF = """
[DEFAULT]
enabled_backends = ceph, lvm
my_ip = 192.0.2.7
transport_url = rabbit://user:password@host
rootwrap_config = /etc/cinder/rootwrap.conf
[backend_defaults]
reserved_percentage = 10
[ceph]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
rbd_pool = volumes
rbd_secret_uuid = %(not interpolated)s
[lvm]
volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver
volume_backend_name = LVM_iSCSI
[unused]
volume_driver = x
"""


TWO_DEVICES = ("backend_id:a,san_ip:192.0.2.7", "backend_id:b")
SHARED_NAME = """[DEFAULT]
# Größe, in an encoding of long ago
enabled_backends = "array-1", Array-2
my_ip: 192.0.2.1
[array-1]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volume_backend_name = array
san_password = " blank # no comment"
replication_device = backend_id:a,san_ip:192.0.2.7
replication_device = backend_id:b
san_ip = b
[ARRAY-2]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volume_backend_name = array
replication_device = backend_id:c,san_password:Pa$w
long = one
  two
[fc-zone-manager]
zone_driver = cinder.zonemanager.drivers.brocade.brcd_fc_zone_driver.BrcdFCZoneDriver
fc_fabric_names = FABRIC_A, fabric_b
[FABRIC_A]
fc_fabric_password = Pa$word1
[FABRIC_B]
fc_fabric_address = 192.0.2.2
"""


def test_native_cinder_conf(tmp_path: Path) -> None:
    path = tmp_path / "cinder.conf"
    path.write_text(CINDER_CONF)
    settings = load(environment={"CINDERBOX_CINDER_CONF": str(path)})
    assert backend_configurations(settings) == [
        BackendConfiguration(
            name="ceph",
            driver="cinder.volume.drivers.rbd.RBDDriver",
            options={
                "reserved_percentage": "10",
                "rbd_pool": "volumes",
                "rbd_secret_uuid": "%(not interpolated)s",
            },
        ),
        BackendConfiguration(
            name="lvm",
            driver="cinder.volume.drivers.lvm.LVMVolumeDriver",
            options={"reserved_percentage": "10"},
        ),
    ]
    path.write_text(SHARED_NAME, encoding="latin-1")
    first, second = backend_configurations(settings)
    assert (first.name, second.name) == ("array-1", "Array-2"), "both have one volume_backend_name"
    assert first.options == {"san_password": " blank # no comment", "replication_device": TWO_DEVICES, "san_ip": "b"}
    assert isinstance(first.options["replication_device"], Repeated)
    assert second.options == {"replication_device": "backend_id:c,san_password:Pa$w", "long": "one\ntwo"}
    assert read_backends(path)[1] == {
        "my_ip": "192.0.2.1",
        "fc-zone-manager.zone_driver": "cinder.zonemanager.drivers.brocade.brcd_fc_zone_driver.BrcdFCZoneDriver",
        "fc-zone-manager.fc_fabric_names": "FABRIC_A, fabric_b",
        "FABRIC_A.fc_fabric_password": "Pa$word1",
        "fabric_b.fc_fabric_address": "192.0.2.2",
    }
    path.write_text("[DEFAULT]\nenabled_backends = a\n[a]\nsan_password Hunter2\n")
    with pytest.raises(SettingsError, match=r"line 4: No ':' or '=' found in assignment$"):
        backend_configurations(settings)
    path.write_bytes(b"[DEFAULT]\nenabled_backends = a\n[a]\nsan_password = Hunter\xff2\n")
    with pytest.raises(SettingsError, match="'san_password'") as caught:
        backend_configurations(settings)
    assert "Hunter" not in str(caught.value)
    path.write_text("[DEFAULT]\nenabled_backends = gone\n")
    with pytest.raises(SettingsError, match="enabled_backends names gone, which has no section"):
        backend_configurations(settings)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CSI_MODE": "agent"}, "mode (from ember-csi's environment variables): Input should be 'controller', 'node'"),
        ({"X_CSI_BACKEND_CONFIG": "{"}, "X_CSI_BACKEND_CONFIG is not valid JSON"),
        ({"X_CSI_BACKEND_CONFIG": '"text"'}, "X_CSI_BACKEND_CONFIG must be an object or a list"),
        ({"X_CSI_BACKEND_CONFIG": '{"name": "x"}'}, "every backend needs driver"),
        ({"X_CSI_BACKEND_CONFIG": ""}, "need backends"),
        ({"CINDERBOX_LOG_LEVL": "debug"}, "unknown setting log_levl (from environment); did you mean log_level?"),
        ({"CINDERBOX_WORKERS": "many"}, "workers (from environment): Input should be a valid integer"),
        ({"CINDERBOX_WORKERS": "0"}, "greater than or equal to 1"),
        ({"CINDERBOX_NODE_TOPOLOGY": "{"}, "CINDERBOX_NODE_TOPOLOGY is not valid JSON or YAML"),
        (
            {"CSI_ENDPOINT": "http://x"},
            "endpoint (from ember-csi's environment variables): must be unix:///path or tcp",
        ),
        ({"CSI_ENDPOINT": f"unix:///{'x' * 200}"}, "1 to 107 bytes"),
        ({"CINDERBOX_DRIVER_NAME": "-x"}, "driver_name"),
        ({"X_CSI_NODE_ID": "x" * 256}, "node_id"),
        ({"CSI_MODE": "node"}, "mode node needs registry_endpoint"),
        ({"CINDERBOX_REGISTRY_ENDPOINT": "tcp://host:1"}, "registry_endpoint over TCP needs"),
        ({"CINDERBOX_REGISTRY_TLS_CA": "/ca"}, "go together"),
        ({"X_CSI_EMBER_CONFIG": '{"disabled": ["telepathy"]}'}, "disabled_features.0"),
        ({"CINDERBOX_SETTINGS": "/no/such/file"}, "settings file /no/such/file cannot be read"),
    ],
)
def test_wrong_settings_are_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(environment)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", ["- a list", "{", "\t"])
def test_wrong_files_are_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=f"settings file {file}"):
        loaded(file=file)


def test_addresses() -> None:
    for endpoint in ("unix:///run/csi.sock", "unix:/run/csi.sock", "tcp://0.0.0.0:5000", "[::]:50051", "tcp://[::1]:1"):
        assert loaded({"CINDERBOX_ENDPOINT": endpoint}).endpoint == endpoint
    for address in ("[::]:9808", "[fd00::8]:9808", "0.0.0.0:9808", "localhost:9808", "[fe80::1%eth0]:9808"):
        assert loaded({"CINDERBOX_HTTP_ADDRESS": address}).http_address == address
    for address in ("fd00::8", "192.0.2.8", "storage-1.example"):
        assert loaded({"CINDERBOX_STORAGE_NETWORK_IP": address}).storage_network_ip == address


@pytest.mark.parametrize("address", ["::1:9808", "[::1:9808", "[host]:9808", "[192.0.2.1]:9808", "fd00::8:9808"])
def test_an_ipv6_address_with_a_port_is_in_brackets(address: str) -> None:
    for variable in ("CINDERBOX_ENDPOINT", "CINDERBOX_REGISTRY_ENDPOINT", "CINDERBOX_HTTP_ADDRESS"):
        with pytest.raises(SettingsError, match=rf"{variable[10:].lower()}.*brackets.*, as in \[::1\]:9808"):
            loaded({variable: address})


@pytest.mark.parametrize("address", ["[fd00::8]", "192.0.2.8:3260", "192.0.2.0/24", "fd00:8", ""])
def test_an_address_of_the_storage_network_is_bare(address: str) -> None:
    with pytest.raises(SettingsError, match=r"storage_network_ip.*without brackets and port"):
        loaded({"CINDERBOX_STORAGE_NETWORK_IP": address})


@pytest.mark.parametrize(
    "text",
    [
        "backends:\n- san_password: *Hunter2\n",
        "backends:\n- san_password: !Hunter2 x\n",
        "backends:\n- san_password: @Hunter2\n",
        "backends:\n- san_password: %Hunter2\n",
        'backends:\n- san_password: "Hunter2\n',
        "backends:\n- san_password: a: Hunter2\n",
        "backends:\n- {san_password: Hunter2\n",
        "backends: [san_password: [Hunter2, {]\n",
        'backends:\n- san_password: "Hunter2\\q"\n',
    ],
)
def test_what_is_no_yaml_is_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"is not valid YAML: line [123], column") as caught:
        loaded(file=file)
    assert "Hunter2" not in str(caught.value)
    with pytest.raises(SettingsError, match="CINDERBOX_BACKENDS is not valid") as caught:
        loaded({"CINDERBOX_BACKENDS": text})
    assert "Hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("log_level: debug\nbackends: [{name: a, driver: b}]\nbackends: [{name: c, driver: d}]", "line 3.*backends is"),
        ("backends:\n- {name: a, driver: b, san_password: S3cret, san_password: S3cret}", "line 2.*san_password is"),
        ("log_level: info\n'log_level': info", "line 2.*log_level is"),
    ],
)
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """The second list of backends would be the only one, and the volumes of the first without their driver."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words + " there twice") as caught:
        load(file=file, environment={})
    assert "S3cret" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"CINDERBOX_PERSISTENCE.*storage is there twice"):
        loaded({"CINDERBOX_PERSISTENCE": '{"storage": "db", "storage": "memory"}'})


def test_a_merge_of_yaml_may_be_given_other_values(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("backends:\n- &one {name: a, driver: LoopDriver}\n- {<<: *one, name: b}")
    found = load(file=file, environment={}).backends
    assert [backend["volume_backend_name"] for backend in found] == ["a", "b"]


def test_two_backends_of_one_name_are_refused(tmp_path: Path) -> None:
    backend = {"name": "one", "driver": "LoopDriver"}
    with pytest.raises(SettingsError, match="one is there more than once"):
        load({"backends": [backend, backend]}, environment={})
    conf = tmp_path / "cinder.conf"
    conf.write_text("[DEFAULT]\nenabled_backends = one\n[one]\nvolume_driver = LoopDriver\n")
    both = load({"backends": [backend], "cinder_conf": conf}, environment={})
    with pytest.raises(SettingsError, match=r"together: .* one is there more than once"):
        backend_configurations(both)


def test_passwords_in_settings_are_known_to_the_redaction() -> None:
    loaded(
        {
            "X_CSI_PERSISTENCE_CONFIG": '{"storage":"db","connection":"mysql+pymysql://u:Planted/1@x%40@db/c"}',
            "X_CSI_BACKEND_CONFIG": '{"name": "x", "driver": "loop", "san_password": "Planted-two", '
            '"replication_device": [{"backend_id": "r", "san_password": "Planted-three"}]}',
        }
    )
    for secret in ("Planted/1@x%40", "Planted/1@x@", "Planted-two", "Planted-three"):
        assert "Planted" not in redact_text(f"the driver says: {secret}!"), secret


@pytest.mark.parametrize(
    "text",
    ["0123456", "1_000_000", "0x1f1f1f1f", "12:30:45", "1.50", "00.5", "2026-12-01", "2026-99-99", "0b_", ".inf"],
)
def test_a_password_is_what_is_written(tmp_path: Path, text: str) -> None:
    """YAML would make other numbers of them, or dates, and the driver would log in with those."""
    file = tmp_path / "settings.yaml"
    file.write_text(f"backends:\n- {{name: a, driver: b, san_password: {text}}}\n")
    assert load(file=file, environment={}).backends[0]["san_password"] == text
    file.write_text(f"project_id: {text}\nbackends: [{{name: a, driver: b, port: 8080, ratio: 1.5, thin: no}}]\n")
    settings = load(file=file, environment={})
    assert settings.project_id == text
    assert [settings.backends[0][name] for name in ("port", "ratio", "thin")] == [8080, 1.5, False]


LAUGHS = "".join(f"  a{number}: &a{number} [*a{number - 1}, *a{number - 1}]\n" for number in range(1, 40))


@pytest.mark.parametrize(
    "text",
    [
        "persistence: {password: !!int Hunter2}",
        "persistence: {password: !!float Hunter2}",
        "persistence: {password: !!bool Hunter2}",
        "persistence: {password: !!binary SHVudGVyMg==}",
        "persistence: {password: !!timestamp 2026-99-99}",
        "persistence: {password: !!set {Hunter2}}",
        "persistence: &a {password: Hunter2, again: *a}",
        "persistence: {password: Hunter2, a: " + "[" * 3000 + "]" * 3000 + "}",
        "persistence: {password: Hunter2, a: " + "9" * 5000 + "}",
        f"persistence:\n  password: Hunter2\n  a0: &a0 [x, x]\n{LAUGHS}",
    ],
    ids=["int", "float", "bool", "binary", "date", "set", "itself", "deep", "digits", "laughs"],
)
def test_values_that_nothing_can_be_made_of_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"{text}\n")
    with pytest.raises(SettingsError, match=r"is not valid YAML: line \d+, column") as caught:
        loaded(file=file)
    assert "Hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CINDERBOX_DEBUG": "["}, "debug .from environment. must be true or false"),
        ({"X_CSI_EMBER_CONFIG": '{"plugin_name": 5}'}, "plugin_name in X_CSI_EMBER_CONFIG must be text"),
        ({"X_CSI_EMBER_CONFIG": '{"state_path": [], "a": "b"}'}, "state_path in X_CSI_EMBER_CONFIG must be text"),
        ({"X_CSI_PERSISTENCE_CONFIG": "[" * 100_000}, "X_CSI_PERSISTENCE_CONFIG is not valid JSON"),
        ({"CINDERBOX_STOP_SECONDS": "1e300"}, "stop_seconds .* less than or equal to"),
        ({"CINDERBOX_RECOVERY_INTERVAL_SECONDS": "inf"}, "recovery_interval_seconds .* less than or equal to"),
        ({"CINDERBOX_TRIM_INTERVAL_HOURS": "1e9"}, "trim_interval_hours .* less than or equal to"),
        ({"CINDERBOX_MAX_VOLUMES": "9" * 30}, "max_volumes .* less than or equal to"),
        ({"CINDERBOX_CLUSTER_NAME": "a\x1b[31m"}, "cluster_name .* must be printable"),
        ({"CINDERBOX_PROJECT_ID": "a\udcff"}, "project_id .from environment. must be text in UTF-8"),
        ({"CINDERBOX_STATE_DIR": "/a\0b"}, "state_dir .from environment. must be text in UTF-8, without a character"),
        ({"CINDERBOX_REGISTRATION_DIR": "/a" * 40, "CINDERBOX_DRIVER_NAME": "b" * 30}, "registration_dir .* 107 bytes"),
        ({"CINDERBOX_ENDPOINT": "unix:///run/a%20b.sock"}, "endpoint .* 107 bytes without %"),
        ({"CINDERBOX_ENDPOINT": "tcp://127.0.0.1:" + "9" * 5000}, "tcp://host:port .must be host:port"),
        ({"CINDERBOX_HTTP_ADDRESS": "127.0.0.1:\u0663\u0663"}, "must be host:port"),
        ({"CINDERBOX_HTTP_ADDRESS": "a b:80"}, "must be host:port"),
        ({"CINDERBOX_HTTP_ADDRESS": "a..b:80"}, "must be host:port"),
        ({"CINDERBOX_BACKENDS": '[{"name": "a#b", "driver": "c"}]'}, "without @ and #, not 'a#b'"),
        ({"CINDERBOX_BACKENDS": '[{"name": "a\\nb", "driver": "c"}]'}, "must be printable"),
    ],
)
def test_what_nothing_can_use_is_refused_at_once(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(environment={"CINDERBOX_BACKENDS": '[{"name": "a", "driver": "b"}]'} | environment)
