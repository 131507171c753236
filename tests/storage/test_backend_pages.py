"""What docs/backends says of options, defaults, commands and alerts: that of the code, and of Cinder's own drivers.

What storages do is tried in the storage lab."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cinder.brick.local_dev import lvm as local_lvm

from csi_plugin.attachment import share_options
from csi_plugin.controller.lost_nodes import SILENCE_SECONDS
from csi_plugin.server.backend_configurations import backend_configurations
from csi_plugin.server.settings import Settings
from csi_plugin.storage.cinder import driver_classes, option_definitions, options
from csi_plugin.storage.cinder.adaptations import default_options, lvm_stats
from csi_plugin.storage.cinder.adaptations.hidden_options import ACCEPTED_UNREGISTERED
from tests.support.project import LOOP_DRIVER, PROJECT

FOLDER = PROJECT / "docs/backends"
LVM, NFS, RBD = (f"cinder.volume.drivers.{name}" for name in ("lvm.LVMVolumeDriver", "nfs.NfsDriver", "rbd.RBDDriver"))
DRIVERS = {
    "loop.md": LOOP_DRIVER,
    "lvm-iscsi.md": LVM,
    "lvm-nvme.md": LVM,
    "nfs.md": NFS,
    "ceph-rbd.md": RBD,
}
ELSEWHERE = {
    # Modules of the kernel.
    *("dm_thin_pool", "target_core_mod", "target_core_iblock", "iscsi_target_mod", "nvmet_tcp", "nvme_tcp"),
    "no_root_squash",  # of exports(5)
}
"""Names with an underscore that are no option, setting or metric of Cinderbox."""


def _text(page: str) -> str:
    return (FOLDER / page).read_text()


def _yaml(page: str) -> list[Any]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", _text(page), re.DOTALL)]


def _backends(page: str) -> list[dict[str, Any]]:
    (found,) = [block["backends"] for block in _yaml(page) if "backends" in block]
    return list(found)


def _outside_of_blocks(page: str) -> str:
    return re.sub(r"```.*?```", "", _text(page), flags=re.DOTALL)


def _default(driver: str, option: str) -> Any:
    return option_definitions.definitions_of(driver)[option].default


@pytest.mark.parametrize("page", DRIVERS)
def test_the_backends_that_are_printed_are_taken_as_they_are(library: None, page: str) -> None:
    """By the settings, and every option by the driver's own definitions."""
    (found,) = backend_configurations(Settings.model_validate({"backends": _backends(page)}))
    assert found.driver == DRIVERS[page]
    options.backend_configuration(
        f"page-{page.removesuffix('.md')}", {**found.driver_options(), "volume_driver": found.driver}, strict=True
    )


@pytest.mark.parametrize("page", DRIVERS)
def test_storage_classes_are_of_the_pages_backend(page: str) -> None:
    names = {backend["name"] for backend in _backends(page)}
    for block in _yaml(page):
        if block.get("kind") == "StorageClass":
            assert block["provisioner"] == Settings.model_fields["driver_name"].default
            assert block["parameters"]["backend"] in names
    if named := re.search(r"with `backend: (\w+)`", _text(page)):
        assert named[1] in names


@pytest.mark.parametrize("page", ["README.md", *DRIVERS])
def test_every_name_in_the_text_is_that_of_something(library: None, page: str) -> None:
    drivers = [DRIVERS[page]] if page in DRIVERS else list(DRIVERS.values())
    known = {*ELSEWHERE, *Settings.model_fields, *ACCEPTED_UNREGISTERED, "backend_defaults", "volume_driver"}
    known.update(name for driver in drivers for name in option_definitions.definitions_of(driver))
    known.update(re.findall(r"^\| `(cinderbox_\w+)` \|", (PROJECT / "docs/metrics.md").read_text(), re.MULTILINE))
    spans = re.findall(r"`([^`\n]+)`", _outside_of_blocks(page))
    names = {span.partition(":")[0] for span in spans}
    assert {name for name in names if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", name)} <= known


@pytest.mark.parametrize("page", ["README.md", *DRIVERS])
def test_every_command_and_alert_in_the_text_is_there(page: str) -> None:
    commands = (PROJECT / "docs/commands.md").read_text()
    for command in _commands(page):
        words = [word for word in command.split() if not word.isupper()]
        name = " ".join(word for word in words if not word.startswith("-"))
        section = re.search(rf"^##+ `{name}`\n(.*?)^##", f"{commands}\n##", re.DOTALL | re.MULTILINE)
        assert section, f"there is no command {name}"
        for option in words:
            assert not option.startswith("-") or f"`{option}`" in section[1], f"{name} takes no {option}"
    alerts = (PROJECT / "deploy/monitoring/alerts.yaml").read_text()
    for alert in re.findall(r"`(Cinderbox[A-Z]\w+)`", _text(page)):
        assert f"alert: {alert}\n" in alerts


def _commands(page: str) -> list[str]:
    """Those that begin with cinderbox, in a span or at the end of an indented line."""
    text = _text(page)
    lines = [line.rpartition(" -- ")[2] for line in text.splitlines() if line.startswith("    ") and " -- " in line]
    return [each for each in (*re.findall(r"`([^`\n]+)`", text), *lines) if each.startswith("cinderbox ")]


def test_what_is_promised_by_default(library: None) -> None:
    assert "For LVM, Ceph RBD, NFS and\nloop it is 2 unless" in _text("README.md")
    for driver in set(DRIVERS.values()):
        assert (
            float(default_options.defaults_of(driver_classes.driver_class(driver))["max_over_subscription_ratio"]) == 2
        )
    assert "(Cinder's default is 20; for all other drivers it\nstays)" in _text("README.md")
    array = "cinder.volume.drivers.solidfire.SolidFireDriver"
    assert float(_default(array, "max_over_subscription_ratio")) == 20
    assert default_options.defaults_of(driver_classes.driver_class(array)) == {}


@pytest.mark.parametrize(
    ("page", "said", "option", "default"),
    [
        ("lvm-iscsi.md", "`volume_clear` (zero by default)", "volume_clear", "zero"),
        ("nfs.md", "`$state_path/mnt/<hash>`", "nfs_mount_point_base", "$state_path/mnt"),
        ("nfs.md", "Snapshots need `nfs_snapshot_support: true`", "nfs_snapshot_support", False),
        ("nfs.md", "Leave it off", "nfs_qcow2_volumes", False),
        ("ceph-rbd.md", "With `enable_deferred_deletion: true`", "enable_deferred_deletion", False),
        ("ceph-rbd.md", "`rbd_flatten_volume_from_snapshot: true` makes", "rbd_flatten_volume_from_snapshot", False),
    ],
)
def test_defaults_are_cinders(library: None, page: str, said: str, option: str, default: Any) -> None:
    assert said in _text(page)
    assert _default(DRIVERS[page], option) == default


@pytest.mark.parametrize("page", ["lvm-iscsi.md", "lvm-nvme.md"])
def test_the_driver_takes_95_percent_of_the_group_for_its_pool(page: str) -> None:
    assert "the driver makes the thin pool `<group>-pool` in it, of 95% of its size" in _text(page)
    group = SimpleNamespace(vg_free_space=100.0, update_volume_group_info=lambda: None)
    assert local_lvm.LVM._calculate_thin_pool_size(group) == "95.0g"


def test_limits_of_a_thin_pools_metadata() -> None:
    assert "At 90% Cinderbox makes nothing new there\n(`cinderbox_pool_metadata_used_ratio`, alert at 80%)" in _text(
        "lvm-iscsi.md"
    )
    assert lvm_stats.METADATA_LIMIT_PERCENT == 90
    alerts = yaml.safe_load((PROJECT / "deploy/monitoring/alerts.yaml").read_text())
    assert "cinderbox_pool_metadata_used_ratio > 0.8" in [
        rule["expr"] for group in alerts["groups"] for rule in group["rules"]
    ]


def test_when_a_node_counts_as_gone() -> None:
    assert f"A node counts as gone {SILENCE_SECONDS} seconds" in _text("README.md")


def test_the_host_profile_has_the_directories_of_lvm_and_lio() -> None:
    said = re.search(r"whose (.*) it then has", _text("lvm-iscsi.md"), re.DOTALL)
    assert said
    values = yaml.safe_load((PROJECT / "deploy/helm/cinderbox/values.yaml").read_text())
    mounted = {mount["path"] for mount in values["controller"]["hostMounts"]}
    assert set(re.findall(r"`(/[^`]+)`", said[1])) <= mounted


def test_options_of_rbd_map(library: None) -> None:
    example, refused = re.search(
        r"with commas between them: `([^`]+)`, say\..*?((?:`\w+`(?:, | and )?){5}) are not\s+among them",
        _text("ceph-rbd.md"),
        re.DOTALL,
    ).groups()  # type: ignore[union-attr]
    driver = {"volume_driver": RBD}
    options.backend_configuration("page-map", {**driver, "rbd_map_options": example}, strict=True)
    for name in re.findall(r"`(\w+)`", refused):
        with pytest.raises(ValueError, match="is no option of rbd map"):
            options.backend_configuration("page-map", {**driver, "rbd_map_options": name}, strict=True)


def test_mount_options_of_nfs() -> None:
    said = re.search(r"how the share is reached and cached \(([^)]*)\.\.\.\)", _text("nfs.md"))
    assert said
    for name in re.findall(r"`(\w+)`", said[1]):
        assert share_options.fault("nfs", f"{name}=1") is None, name
    (backend,) = _backends("nfs.md")
    assert share_options.fault("nfs", backend["nfs_mount_options"]) is None


COLUMNS = {
    "revert to the latest snapshot": "revert",
    "adoption of a volume made by hand": "manage",
    "consistent groups": "groups",
    "published to two nodes": "multi-attach",
    "expansion under a writer": "extend online",
}
"""Rows of what was seen to work, and the columns in the table of what drivers offer."""


@pytest.mark.parametrize(("column", "driver"), [(1, LVM), (2, LVM), (3, NFS), (4, RBD)])
def test_what_was_seen_to_work_is_what_the_driver_offers(column: int, driver: str) -> None:
    table = _text("drivers.md").partition("## What each offers")[2]
    header, offered = (
        [cell.strip() for cell in re.search(rf"^\| {name} \|.*$", table, re.MULTILINE)[0].split("|")]  # type: ignore[index]
        for name in ("Driver", re.escape(driver.removeprefix("cinder.volume.drivers.")))
    )
    for row, feature in COLUMNS.items():
        seen = re.search(rf"^\| {row} \|.*$", _text("README.md"), re.MULTILINE)
        assert seen
        cell = seen[0].split("|")[column + 1].strip()
        word = offered[header.index(feature)]
        # [3] is of thin volumes, the one kind that the pages set up.
        assert word == {"yes": "yes", "[3]": "depends"}.get(cell, "-"), f"{row}: {cell}"
