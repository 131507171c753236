"""The list of Cinder's drivers."""

import pytest

from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder import driver_catalogue
from tests.support.programs import after_importing_the_library


def test_all_of_cinders_drivers_are_listed() -> None:
    drivers = driver_catalogue.all_drivers()
    assert len(drivers) == 103
    assert all(driver["class_fqn"].startswith("cinder.") for driver in drivers)
    assert len(Backend.list_supported_drivers()) == 101, "two class names are used twice"


def test_version_1_is_text() -> None:
    lvm = Backend.list_supported_drivers()["LVMVolumeDriver"]
    assert set(lvm) == {
        "desc", "class_name", "class_fqn", "version", "ci_wiki_name", "supported", "driver_options",
    }  # fmt: skip
    assert lvm["class_fqn"] == "cinder.volume.drivers.lvm.LVMVolumeDriver"
    assert lvm["supported"] is True
    option = next(found for found in lvm["driver_options"] if found["dest"] == "lvm_mirrors")
    assert option["default"] == "0"
    assert option["type"] == "Integer"
    assert all(isinstance(value, str) for value in option.values())


def test_version_2_keeps_types() -> None:
    lvm = Backend.list_supported_drivers(output_version=2)["LVMVolumeDriver"]
    option = next(found for found in lvm["driver_options"] if found["dest"] == "lvm_type")
    assert option["secret"] is False
    assert list(option["type"]["choices"]) == ["default", "thin", "auto"]
    assert repr(option["type"]["type_class"]).startswith("String(choices=")


def test_rbd_offers_the_keyring_option_that_it_reads() -> None:
    rbd = Backend.list_supported_drivers(2)["RBDDriver"]
    assert [option["dest"] for option in rbd["driver_options"]].count("rbd_keyring_conf") == 1


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="1 and 2"):
        Backend.list_supported_drivers(3)


def test_the_answer_is_the_callers_own() -> None:
    Backend.list_supported_drivers()["LVMVolumeDriver"]["driver_options"].clear()
    assert Backend.list_supported_drivers()["LVMVolumeDriver"]["driver_options"]


def test_no_driver_is_loaded_in_this_process() -> None:
    code = (
        "import sys; from csi_plugin.storage.cinder import driver_catalogue as c; c.all_drivers(); "
        "print(sum(name.startswith('cinder.volume.drivers.') for name in sys.modules))"
    )
    assert int(after_importing_the_library().run(code)) == 0
