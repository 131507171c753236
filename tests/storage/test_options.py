"""Options of backends, checked against the definitions of Cinder and of the driver."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_config import cfg

from csi_plugin.secrets_in_text import redact_text
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.backend_configuration import Repeated
from csi_plugin.storage.cinder import driver_calls, driver_catalogue, driver_classes, option_definitions, options
from csi_plugin.storage.cinder.adaptations import hidden_options

RECORDING = "recording_driver.RecordingDriver"
RBD = "cinder.volume.drivers.rbd.RBDDriver"
NewBackend = Callable[..., Backend]


def test_values_have_the_types_of_their_definitions(new_backend: NewBackend) -> None:
    backend = new_backend(
        recording_free_gb="7",
        recording_pools=["a", "b"],
        recording_devices={"backend_id": "x"},
        max_over_subscription_ratio=3,
    )
    configuration = backend.configuration
    assert configuration.recording_free_gb == 7
    assert configuration.recording_pools == ["a", "b"]
    assert configuration.recording_devices == [{"backend_id": "x"}]
    assert configuration.max_over_subscription_ratio == "3"
    assert backend.pool_names == ("a", "b")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("recording_free_gb", "many", r"recording_free_gb of backend ill: 'many' is not a valid Integer\(min=0\)"),
        ("recording_free_gb", -1, r"'?-1'? is not a valid Integer\(min=0\)"),
        (
            "reserved_percentage",
            101,
            r"reserved_percentage of backend ill: 101 is not a valid Integer\(min=0, max=100\)",
        ),
        ("use_multipath_for_image_xfer", "perhaps", "is not a valid Boolean"),
    ],
)
def test_an_ill_typed_option_is_an_error_that_names_it(
    new_backend: NewBackend, name: str, value: Any, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        new_backend(volume_backend_name="ill", **{name: value})
    assert "ill" not in Backend.backends


def test_an_ill_typed_secret_is_not_repeated(new_backend: NewBackend) -> None:
    with pytest.raises(ValueError, match="recording_secret") as caught:
        new_backend(recording_secret="Hunter2")
    assert "Hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_unknown_option_is_a_warning_in_the_library(
    new_backend: NewBackend, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="csi_plugin.storage.cinder.options"):
        backend = new_backend(recording_lable="x")
    assert "unknown option recording_lable" in caplog.text
    assert "did you mean recording_label?" in caplog.text
    assert backend.configuration.recording_lable == "x", "the driver gets it as it is, as from cinderlib"


def test_an_unknown_option_is_an_error_when_strict(new_backend: NewBackend) -> None:
    with pytest.raises(options.UnknownOption, match="did you mean recording_label"):
        new_backend(recording_lable="x", strict=True)


def test_options_of_other_drivers_are_unknown(new_backend: NewBackend) -> None:
    driver_classes.driver_class(RBD)  # so that its definitions are registered
    with pytest.raises(options.UnknownOption, match="rbd_pool"):
        new_backend(rbd_pool="x", strict=True)


def test_options_that_a_driver_reads_without_defining_them_are_known(library: None) -> None:
    found = options.backend_configuration("ceph", {"volume_driver": RBD, "rbd_keyring_conf": "/etc/k"}, strict=True)
    assert found.rbd_keyring_conf == "/etc/k"
    assert found.safe_get("rbd_keyring_conf") == "/etc/k"
    other = options.backend_configuration("ceph2", {"volume_driver": RBD}, strict=True)
    assert not other.safe_get("rbd_keyring_conf")


def test_options_of_rbd_map_reach_nodes(library: None) -> None:
    configuration = options.backend_configuration(
        "ceph3", {"volume_driver": RBD, "rbd_map_options": "ms_mode=secure,queue_depth=256"}, strict=True
    )
    told: dict[str, Any] = {"driver_volume_type": "rbd", "data": {}}
    driver = SimpleNamespace(configuration=configuration, initialize_connection=lambda *_: told)
    assert driver_calls._open(driver, None, {})["data"] == {"map_options": "ms_mode=secure,queue_depth=256"}
    for wrong in ("ms_mode=secure --id admin", "secret=s", "ro"):
        with pytest.raises(ValueError, match="is no option of rbd map"):
            options.backend_configuration("ceph4", {"volume_driver": RBD, "rbd_map_options": wrong}, strict=True)


def test_deprecated_names_set_the_option_that_replaced_them(new_backend: NewBackend) -> None:
    assert new_backend(old_multiattach=True, strict=True).configuration.recording_multiattach is True


def test_options_of_one_backend_do_not_reach_another(new_backend: NewBackend) -> None:
    first = new_backend(recording_label="first", recording_free_gb=1)
    second = new_backend()
    assert (first.configuration.recording_label, second.configuration.recording_label) == ("first", "")
    assert (first.configuration.recording_free_gb, second.configuration.recording_free_gb) == (1, 10)


def test_a_closed_backends_options_do_not_come_back(new_backend: NewBackend) -> None:
    new_backend(volume_backend_name="again", recording_label="old").close()
    assert new_backend(volume_backend_name="again").configuration.recording_label == ""


def test_references_in_values_are_replaced(new_backend: NewBackend) -> None:
    backend = new_backend(recording_label="$recording_secret-${coordination.backend_url}", recording_secret="abc")
    assert backend.configuration.recording_label == f"abc-{cfg.CONF.coordination.backend_url}"


@pytest.mark.cinderlib("references in options")
def test_cinderlibs_word_for_options_of_the_same_backend(new_backend: NewBackend) -> None:
    backend = new_backend(
        volume_backend_name="named",
        recording_label="my-${backend_defaults.volume_backend_name}-vg, ${backend_defaults.recording_free_gb}",
        recording_pools="$backend_defaults.recording_label",
    )
    assert backend.configuration.recording_label == "my-named-vg, 10"
    assert backend.configuration.recording_pools == ["my-named-vg", "10"]


@pytest.mark.parametrize(
    "value", ["Pa$word1", "Pa$recording_label", "Pa${recording_label}", "a$$b", r"a\$b", "$", "${", "$(x)", "$my_ip"]
)
def test_secrets_are_taken_as_they_are(new_backend: NewBackend, value: str) -> None:
    """oslo.config takes a dollar sign for a reference in secrets as well."""
    devices = [f"backend_id:x,san_password:{value}", {"backend_id": "y", "san_password": value}]
    backend = new_backend(
        recording_label="label",
        recording_password=value,
        recording_devices=devices,
        recording_other=value,
        secret_options=["recording_other"],
    )
    assert backend.configuration.recording_password == value
    assert backend.configuration.safe_get("recording_password") == value
    assert backend.configuration.recording_other == value
    assert [device["san_password"] for device in backend.configuration.recording_devices] == [value, value]


def test_a_reference_to_nothing_stays_as_it_is(new_backend: NewBackend) -> None:
    backend = new_backend(
        recording_label="$nothing ${no.thing} $5 $$recording_free_gb $recording_label $recording_free_gb.",
        recording_pools="$recording_free_gb,b$nothing",
        recording_free_gb="4",
    )
    assert backend.configuration.recording_label == "$nothing ${no.thing} $5 $recording_free_gb $recording_label 4."
    assert backend.configuration.recording_pools == ["4", "b$nothing"]
    one_for_another = new_backend(recording_label="$recording_other", recording_other="$recording_label")
    assert one_for_another.configuration.recording_label == "$recording_label"


def test_no_error_has_a_part_of_a_secret(new_backend: NewBackend, caplog: pytest.LogCaptureFixture) -> None:
    """Not by a reference from another option, either; and a driver's error that quotes it is masked."""
    for arguments in (
        {"recording_secret": "Hunter2$Hunter3"},
        {"recording_free_gb": "$recording_secret", "recording_secret": "hunterhunter"},
        {"recording_free_gb": "Hunter2$Hunter3", "secret_options": ["recording_free_gb"]},
    ):
        with pytest.raises(ValueError, match=r"recording_\w+ of backend \w+: not a valid") as caught:
            new_backend(volume_backend_name="ill", **arguments)
        assert "unter" not in f"{caught.value}{caplog.text}"
    new_backend(recording_password="Planted$one", recording_devices="backend_id:x,san_password:Planted$two")
    assert redact_text("E: Planted$one Planted$two") == "E: *** ***"


def test_options_that_a_file_has_twice(new_backend: NewBackend) -> None:
    twice = Repeated(("backend_id:x", "backend_id:y"))
    backend = new_backend(recording_devices=twice, recording_label=Repeated(("first", "last")))
    assert backend.configuration.recording_devices == [{"backend_id": "x"}, {"backend_id": "y"}]
    assert backend.configuration.recording_label == "last"


def test_fibre_channel_fabrics(library: None) -> None:
    names = ("zone_driver", "fc_fabric_names")
    options.set_global(
        {
            "fc-zone-manager.zone_driver": "cinder.zonemanager.drivers.brocade.brcd_fc_zone_driver.BrcdFCZoneDriver",
            "fc-zone-manager.fc_fabric_names": "fabric_a,fabric_b",
            "fabric_b.fc_fabric_password": "Pa$word1",
        }
    )
    from cinder.zonemanager.drivers.brocade import brcd_fabric_opts

    fabrics = brcd_fabric_opts.load_fabric_configurations(["fabric_a", "fabric_b"])
    assert fabrics["fabric_b"].safe_get("fc_fabric_password") == "Pa$word1"
    assert cfg.CONF["fc-zone-manager"].zone_driver.endswith("BrcdFCZoneDriver")
    for name in names:
        cfg.CONF.clear_override(name, "fc-zone-manager")


def test_a_name_that_cinders_configuration_uses_is_refused(new_backend: NewBackend) -> None:
    for name in ("database", "coordination", "state_path"):
        with pytest.raises(ValueError, match="is taken"):
            new_backend(volume_backend_name=name)


def test_global_options(library: None, caplog: pytest.LogCaptureFixture) -> None:
    options.set_global({"glance_request_timeout": "77", "database.max_retries": 3})
    assert cfg.CONF.glance_request_timeout == 77
    assert cfg.CONF.database.max_retries == 3
    with pytest.raises(ValueError, match=r"option database\.max_retries: 'x' is not a valid Integer"):
        options.set_global({"database.max_retries": "x"})
    options.set_global({"glance_request_timeoutt": 1})
    assert "Unknown option glance_request_timeoutt; did you mean glance_request_timeout?" in caplog.text
    for group, name in ((None, "glance_request_timeout"), ("database", "max_retries")):
        cfg.CONF.clear_override(name, group)


def test_a_driver_that_is_not_there(new_backend: NewBackend) -> None:
    for path in ("no.such.Driver", "cinder.volume.drivers.lvm.Nothing", "nodots", "cinder.volume.driver.CONF"):
        with pytest.raises(ValueError, match=f"volume_driver '{path}'"):
            new_backend(volume_driver=path)


def test_drivers_that_moved_are_found_under_their_old_paths(library: None) -> None:
    moved = "cinder.volume.drivers.zadara.ZadaraVPSAISCSIDriver"
    assert driver_classes.driver_class(moved).__module__ == "cinder.volume.drivers.zadara.zadara"


def test_every_option_of_every_driver_is_known(library: None) -> None:
    """What the catalogue tells people to set must be accepted."""
    missing = {}
    for driver in driver_catalogue.all_drivers():
        try:
            definitions = option_definitions.definitions_of(driver["class_fqn"])
        except ValueError:
            continue  # its vendor's library is not installed; the catalogue knows it without that
        unknown = {option["dest"] for option in driver["driver_options"]} - set(definitions)
        unknown -= hidden_options.ACCEPTED_UNREGISTERED.keys()
        if unknown:
            missing[driver["class_fqn"]] = unknown
    assert not missing
