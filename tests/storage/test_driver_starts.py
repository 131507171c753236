"""What a user is told by each of Cinder's drivers that cannot start: what to install, or which option to set."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cinder
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from csi_plugin.storage.cinder import driver_catalogue, driver_classes, driver_requirements, option_definitions
from csi_plugin.storage.cinder.driver_requirements import REQUIREMENTS, File, MissingRequirement, Program, PythonPackage

ROOT = Path(cinder.__file__).parent

NFS = "mount.nfs (Debian package nfs-common)"
SSH = "Specify a password or private_key"

TOLD = {
    "ceph.rbd_iscsi.RBDISCSIDriver": ["rbd-iscsi-client", "python3-rados", "python3-rbd"],
    "datacore.driver.DataCoreVolumeDriver": ["websocket-client"],
    "datacore.fc.FibreChannelVolumeDriver": ["websocket-client"],
    "datacore.iscsi.ISCSIVolumeDriver": ["websocket-client"],
    "datera.datera_iscsi.DateraDriver": ["dfs-sdk"],
    "dell_emc.powerflex.driver.PowerFlexBaseDriver": ["REST server IP, username and password must be"],
    "dell_emc.powerflex.driver.PowerFlexDriver": ["REST server IP, username and password must be"],
    "dell_emc.powerflex.driver.PowerFlexNVMeDriver": ["REST server IP, username and password must be"],
    "dell_emc.powermax.fc.PowerMaxFCDriver": ["options without a value", "powermax_array", "san_ip"],
    "dell_emc.powermax.iscsi.PowerMaxISCSIDriver": ["options without a value", "powermax_array", "san_ip"],
    "dell_emc.powerstore.driver.PowerStoreDriver": ["REST server IP, username and password must be"],
    "dell_emc.powerstore.nfs.PowerStoreNFSDriver": [NFS],
    "dell_emc.powervault.fc.PVMEFCDriver": ["san_ip"],
    "dell_emc.powervault.iscsi.PVMEISCSIDriver": ["san_ip"],
    "dell_emc.sc.storagecenter_fc.SCFCDriver": ["No host supplied"],
    "dell_emc.sc.storagecenter_iscsi.SCISCSIDriver": ["No host supplied"],
    "dell_emc.unity.driver.UnityDriver": ["storops"],
    "dell_emc.vnx.driver.VNXDriver": ["storops"],
    "dell_emc.xtremio.XtremIOFCDriver": ["No host supplied"],
    "dell_emc.xtremio.XtremIOISCSIDriver": ["No host supplied"],
    "fujitsu.eternus_dx.eternus_dx_fc.FJDXFCDriver": ["pywbem", "cinder_eternus_config_file"],
    "fujitsu.eternus_dx.eternus_dx_iscsi.FJDXISCSIDriver": ["pywbem", "cinder_eternus_config_file"],
    "fungible.driver.FungibleDriver": ["No host specified"],
    "fusionstorage.dsware.DSWAREDriver": ["dsware_storage_pools"],
    "hedvig.hedvig_cinder.HedvigISCSIDriver": ["san_password"],
    "hitachi.hbsd_fc.HBSDFCDriver": ["hitachi_target_ports"],
    "hitachi.hbsd_iscsi.HBSDISCSIDriver": ["hitachi_target_ports"],
    "hpe.alletramp_driver.HPEAlletraMPFCDriver": ["hpe-storage-flowkit-py"],
    "hpe.alletramp_driver.HPEAlletraMPISCSIDriver": ["hpe-storage-flowkit-py"],
    "hpe.alletramp_driver.HPEAlletraMPNVMETCPDriver": ["hpe-storage-flowkit-py"],
    "hpe.hpe_3par_fc.HPE3PARFCDriver": ["python-3parclient"],
    "hpe.hpe_3par_iscsi.HPE3PARISCSIDriver": ["python-3parclient"],
    "hpe.nimble.NimbleFCDriver": ["san_ip"],
    "hpe.nimble.NimbleISCSIDriver": ["san_ip"],
    "hpe.xp.hpe_xp_fc.HPEXPFCDriver": ["hpexp_target_ports"],
    "hpe.xp.hpe_xp_iscsi.HPEXPISCSIDriver": ["hpexp_target_ports"],
    "huawei.huawei_driver.HuaweiFCDriver": ["cinder_huawei_conf_file"],
    "huawei.huawei_driver.HuaweiISCSIDriver": ["cinder_huawei_conf_file"],
    "ibm.gpfs.GPFSDriver": ["mmlsconfig"],
    "ibm.gpfs.GPFSNFSDriver": [NFS],
    "ibm.gpfs.GPFSRemoteDriver": [SSH],
    "ibm.ibm_storage.ibm_storage.IBMStorageDriver": ["options without a value", "management_ips", "san_ip"],
    "ibm.storwize_svc.storwize_svc_fc.StorwizeSVCFCDriver": [SSH],
    "ibm.storwize_svc.storwize_svc_iscsi.StorwizeSVCISCSIDriver": [SSH],
    "infinidat.InfiniboxVolumeDriver": ["infinisdk"],
    "infortrend.infortrend_fc_cli.InfortrendCLIFCDriver": ["default-jre-headless", "infortrend_cli_path"],
    "infortrend.infortrend_iscsi_cli.InfortrendCLIISCSIDriver": ["default-jre-headless", "infortrend_cli_path"],
    "inspur.as13000.as13000_driver.AS13000Driver": ["No host supplied"],
    "inspur.instorage.instorage_fc.InStorageMCSFCDriver": [SSH],
    "inspur.instorage.instorage_iscsi.InStorageMCSISCSIDriver": [SSH],
    "kaminario.kaminario_iscsi.KaminarioISCSIDriver": ["krest"],
    "kioxia.kumoscale.KumoScaleBaseVolumeDriver": ["options without a value", "kioxia_url"],
    "lenovo.lenovo_fc.LenovoFCDriver": ["san_ip"],
    "lenovo.lenovo_iscsi.LenovoISCSIDriver": ["san_ip"],
    "lightos.LightOSVolumeDriver": ["options without a value", "lightos_api_address"],
    "linstordrv.LinstorDrbdDriver": ["python-linstor"],
    "linstordrv.LinstorIscsiDriver": ["python-linstor"],
    "lvm.LVMVolumeDriver": ["Debian package lvm2"],
    "macrosan.driver.MacroSANFCDriver": ["options without a value", "macrosan_pool"],
    "macrosan.driver.MacroSANISCSIDriver": ["options without a value", "macrosan_pool"],
    "nec.v.nec_v_fc.VStorageFCDriver": ["nec_v_target_ports"],
    "nec.v.nec_v_iscsi.VStorageISCSIDriver": ["nec_v_target_ports"],
    "nec.volume.MStorageFCDriver": ["nec_ismcli_fip"],
    "nec.volume.MStorageISCSIDriver": ["nec_ismcli_fip"],
    "netapp.dataontap.fc_cmode.NetAppCmodeFibreChannelDriver": ["netapp_login"],
    "netapp.dataontap.iscsi_cmode.NetAppCmodeISCSIDriver": ["netapp_login"],
    "netapp.dataontap.nfs_cmode.NetAppCmodeNfsDriver": [NFS],
    "netapp.dataontap.nvme_cmode.NetAppCmodeNVMeDriver": ["netapp_login"],
    "nexenta.iscsi.NexentaISCSIDriver": ["No host supplied"],
    "nexenta.nfs.NexentaNfsDriver": [NFS],
    "nexenta.ns5.iscsi.NexentaISCSIDriver": ["No host supplied"],
    "nexenta.ns5.nfs.NexentaNfsDriver": [NFS],
    "nfs.NfsDriver": [NFS],
    "open_e.iscsi.JovianISCSIDriver": ["No hosts provided"],
    "prophetstor.dpl_fc.DPLFCDriver": [],  # these two ask their array nothing before the first volume
    "prophetstor.dpl_iscsi.DPLISCSIDriver": [],
    "pure.PureFCDriver": ["py-pure-client"],
    "pure.PureISCSIDriver": ["py-pure-client"],
    "pure.PureNVMEDriver": ["py-pure-client"],
    "qnap.QnapISCSIDriver": ["qnap_management_url"],
    "quobyte.QuobyteDriver": ["quobyte-client"],
    "rbd.RBDDriver": ["python3-rados", "python3-rbd"],
    "rsd.RSDDriver": ["rsd-lib", "sushy"],
    "san.hp.hpmsa_fc.HPMSAFCDriver": ["san_ip"],
    "san.hp.hpmsa_iscsi.HPMSAISCSIDriver": ["san_ip"],
    "sandstone.sds_driver.SdsISCSIDriver": ["No host supplied"],
    "solidfire.SolidFireDriver": ["options without a value", "san_ip"],
    "spdk.SPDKDriver": ["Could not connect to SPDK target"],
    "storpool.StorPoolDriver": ["/etc/storpool.conf"],
    "synology.synology_iscsi.SynoISCSIDriver": ["synology_pool_name"],
    "toyou.acs5000.acs5000_fc.Acs5000FCDriver": [SSH],
    "toyou.acs5000.acs5000_iscsi.Acs5000ISCSIDriver": [SSH],
    "toyou.tyds.tyds.TYDSDriver": ["san_ip, san_password"],
    "vastdata.driver.VASTVolumeDriver": ["vast_subsystem"],
    "veritas_access.veritas_iscsi.ACCESSIscsiDriver": ["san_ip"],
    "veritas_cnfs.VeritasCNFSDriver": [NFS],
    "vmstore.nfs.VmstoreNfsDriver": [NFS],
    "vmware.fcd.VMwareVStorageObjectDriver": ["vmware_host_ip"],
    "vmware.vmdk.VMwareVcVmdkDriver": ["vmware_host_ip"],
    "vzstorage.VZStorageDriver": ["Virtuozzo Storage's client"],
    "yadro.tatlin_fc.TatlinFCVolumeDriver": ["san_ip"],
    "yadro.tatlin_iscsi.TatlinISCSIVolumeDriver": ["san_ip"],
    "zadara.zadara.ZadaraVPSAISCSIDriver": ["InvalidAccessKey"],
}
"""By class path below cinder.volume.drivers: what the message has, without any option and any vendor's software."""


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    program = Path(__file__).parent / "start_all_drivers.py"
    environment = os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("drivers"))}
    made = subprocess.run(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, env=environment
    )
    found: dict[str, str] = json.loads(made.stdout)
    return found


def test_every_driver_is_tried(errors: dict[str, str]) -> None:
    assert set(errors) == {f"cinder.volume.drivers.{driver}" for driver in TOLD}
    assert len(errors) == len(driver_catalogue.all_drivers())


RUNS_COMMANDS_AS_ROOT = "ibm.gpfs.GPFSDriver"


@pytest.mark.parametrize(
    "driver",
    [pytest.param(driver, marks=[pytest.mark.root] if driver == RUNS_COMMANDS_AS_ROOT else ()) for driver in TOLD],
)
def test_the_message_names_what_is_missing(errors: dict[str, str], driver: str) -> None:
    message = errors[f"cinder.volume.drivers.{driver}"]
    assert [text for text in TOLD[driver] if text not in message] == [], message
    assert bool(message) == bool(TOLD[driver]), message


def test_the_message_says_where_to_read_on(errors: dict[str, str]) -> None:
    page = "docs/backends/vendor-files.md"
    assert page in errors["cinder.volume.drivers.pure.PureISCSIDriver"]
    assert (Path(__file__).parents[2] / page).exists()


def test_an_option_that_names_a_module_brings_its_requirements() -> None:
    ibm = "cinder.volume.drivers.ibm.ibm_storage"
    cls = driver_classes.driver_class(f"{ibm}.ibm_storage.IBMStorageDriver")
    assert driver_requirements.requirements_of(cls, {"proxy": f"{ibm}.ds8k_proxy.DS8KProxy"}) == []
    with pytest.raises(MissingRequirement, match="pyxcli"):
        driver_requirements.check("driver", cls, {"proxy": f"{ibm}.xiv_proxy.XIVProxy"})


def test_a_file_may_be_elsewhere(tmp_path: Path) -> None:
    file = File("/etc/cinder/vendor.xml", "from the vendor", "vendor_file")
    assert not file.is_installed({})
    (tmp_path / "vendor.xml").touch()
    assert file.is_installed({"vendor_file": str(tmp_path / "vendor.xml")})


def test_programs_are_found() -> None:
    assert Program("mount", "Debian package mount").is_installed({})
    assert not Program("mount.nowhere", "nobody").is_installed({})


def test_least_versions_are_cinders() -> None:
    """Cinder lists them as extras, one for each vendor."""
    requirements = [Requirement(text) for text in importlib.metadata.requires("cinder") or ()]
    wanted = {canonicalize_name(found.name): str(found.specifier) for found in requirements if found.marker}
    not_listed = {"pyxcli", "sushy"}
    for requirement in {found for several in REQUIREMENTS.values() for found in several}:
        if isinstance(requirement, PythonPackage) and requirement.pip not in ("", *not_listed):
            ours = Requirement(requirement.pip)
            assert str(ours.specifier) == wanted[canonicalize_name(ours.name)]


def test_every_import_of_a_driver_is_cinders_dependency_or_in_the_table() -> None:
    part_of = {
        "capacity": "infinisdk",
        "infi": "infinisdk",
        "alletramp_constants": "a fallback for Cinder's own module",
        "alletramp_service": "a fallback for Cinder's own module",
    }
    needed = {
        (key, found.module) for key, several in REQUIREMENTS.items() for found in several if hasattr(found, "module")
    }
    known = _modules_of_dependencies("cinder", "os-brick") | set(sys.stdlib_module_names) | set(part_of)
    unknown = set()
    for path in (ROOT / "volume/drivers").glob("**/*.py"):
        module = ".".join(path.relative_to(ROOT / "volume/drivers").with_suffix("").parts)
        for name in _imported(path.read_text()) - known:
            if not any(_same_vendor(module, key) and name == needs for key, needs in needed):
                unknown.add(f"{module}: {name}")
    assert unknown == set()


def _same_vendor(module: str, key: str) -> bool:
    """A vendor's modules share a package, of which the table may name one module; the rest are single modules."""
    return f"{module}.".startswith(f"{key}.") or ("." in key and module.rpartition(".")[0] == key.rpartition(".")[0])


_IMPORT = re.compile(
    r"""(?<!\\\n)^[ \t]*import[ ]+(?P<several>[\w.]+(?:,[ ]*[\w.]+)*)(?:[ ]as[ ]\w+)?[ ]*(?:\#.*)?$
    | ^[ \t]*from[ ]+(?P<package>\w[\w.]*)[ ]+import\b
    | \btry_import\(\s*["'](?P<tried>[\w.]+)""",
    re.MULTILINE | re.VERBOSE,
)


def _imported(source: str) -> set[str]:
    """Top-level names, found without reading the syntax of ten megabytes."""
    names = [name for found in _IMPORT.finditer(source) for name in ",".join(filter(None, found.groups())).split(",")]
    return {name.strip().partition(".")[0] for name in names}


def _modules_of_dependencies(*distributions: str) -> set[str]:
    """Top-level modules of these distributions and of all that they need, without extras."""
    pending, found = list(distributions), set()
    while pending:
        name = canonicalize_name(pending.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needed = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or Python
        pending += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if any(canonicalize_name(owner) in found for owner in owners)
    }


@pytest.mark.parametrize(
    ("driver", "option"),
    [
        ("netapp.common.NetAppDriver", "nfs_shares_config"),
        ("netapp.common.NetAppDriver", "netapp_vserver"),
        ("ibm.ibm_storage.ibm_storage.IBMStorageDriver", "ds8k_ssid_prefix"),
        ("lvm.LVMVolumeDriver", "spdk_rpc_protocol"),
        ("spdk.SPDKDriver", "spdk_max_queue_depth"),
    ],
)
def test_options_of_modules_that_a_driver_loads_by_name_are_known(driver: str, option: str) -> None:
    assert option in option_definitions.definitions_of(f"cinder.volume.drivers.{driver}")


def test_all_modules_that_drivers_load_by_name_are_considered() -> None:
    """A new loader in Cinder fails here: look whether what it loads has options of its own."""
    loader = re.compile(r"(?:importutils|importlib)\.import_\w+\(")
    found = {
        str(path.relative_to(ROOT / "volume/drivers"))
        for path in (ROOT / "volume/drivers").glob("**/*.py")
        if loader.search(path.read_text())
    }
    assert found == {
        "ibm/ibm_storage/ds8k_restclient.py",  # its own modules
        "ibm/ibm_storage/ibm_storage.py",
        "lightos.py",  # classes of os-brick
        "linstordrv.py",  # targets
        "lvm.py",  # targets
        "netapp/common.py",
        "spdk.py",  # targets
    }
