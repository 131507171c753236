"""What a Cinder driver needs beyond Cinder's own dependencies: vendors' packages, programs and files.

Looked for before a driver is created. Without that, a driver says in its own words, or not at all, what it lacks: RBD
without Ceph's bindings fails with "'NoneType' object has no attribute 'Rados'". docs/backends/vendor-files.md tells how
such software gets into the image. A test reads the sources of all drivers and fails for an import that is not here.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_PROGRAMS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lpp/mmfs/bin")
"""Directories of the programs that drivers run, some of them as root."""

_DRIVERS = "cinder.volume.drivers."


class MissingRequirement(RuntimeError):
    """Software that a driver cannot start without is not installed."""


@dataclass(frozen=True)
class PythonPackage:
    """A module that a driver imports, and where it comes from."""

    module: str
    """Its top-level name."""
    pip: str = ""
    """Requirement for pip, with the least version that Cinder asks for; empty when it is not on PyPI."""
    debian: str = ""
    """Debian package; empty when there is none."""

    def is_installed(self, options: Mapping[str, Any]) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def __str__(self) -> str:
        package = f"Python package {self.pip}" if self.pip else f"Debian package {self.debian}"
        return f"{package} (module {self.module})"


@dataclass(frozen=True)
class Program:
    """A program that a driver runs where the controller runs."""

    name: str
    source: str
    """The package that has it, as text for humans."""

    def is_installed(self, options: Mapping[str, Any]) -> bool:
        path = os.pathsep.join(filter(None, (os.environ.get("PATH"), *SYSTEM_PROGRAMS)))
        return shutil.which(self.name, path=path) is not None

    def __str__(self) -> str:
        return f"program {self.name} ({self.source})"


@dataclass(frozen=True)
class File:
    """A file that a driver reads where the controller runs."""

    path: str
    """Where the driver looks for it, unless an option says otherwise."""
    source: str
    """Where it comes from, as text for humans."""
    option: str = ""
    """Option with its path; empty when the path is fixed."""

    def is_installed(self, options: Mapping[str, Any]) -> bool:
        return Path(options.get(self.option) or self.path).is_file()

    def __str__(self) -> str:
        option = f", or where the option {self.option} says" if self.option else ""
        return f"file {self.path}{option} ({self.source})"


Requirement = PythonPackage | Program | File

REQUIREMENTS: dict[str, tuple[Requirement, ...]] = {
    "ceph.rbd_iscsi": (PythonPackage("rbd_iscsi_client", pip="rbd-iscsi-client>=0.1.8"),),
    "datacore": (PythonPackage("websocket", pip="websocket-client>=1.3.2"),),
    "datera": (PythonPackage("dfs_sdk", pip="dfs-sdk>=1.2.25"),),
    "dell_emc.unity": (PythonPackage("storops", pip="storops>=0.5.10"),),
    "dell_emc.vnx": (PythonPackage("storops", pip="storops>=0.5.10"),),
    "fujitsu": (
        PythonPackage("pywbem", pip="pywbem>=0.7.0"),
        File(
            "/etc/cinder/cinder_fujitsu_eternus_dx.xml", "the array's address and login", "cinder_eternus_config_file"
        ),
    ),
    "hpe.alletramp_driver": (PythonPackage("hpe_storage_flowkit_py", pip="hpe-storage-flowkit-py>=0.9.3"),),
    "hpe.hpe_3par_base": (PythonPackage("hpe3parclient", pip="python-3parclient>=4.2.10"),),
    "huawei": (File("/etc/cinder/cinder_huawei_conf.xml", "the array's address and login", "cinder_huawei_conf_file"),),
    "ibm.ibm_storage.xiv_proxy": (PythonPackage("pyxcli", pip="pyxcli"),),
    "infinidat": (PythonPackage("infinisdk", pip="infinisdk>=103.0.1"),),
    "infortrend": (
        File("/usr/bin/java", "Debian package default-jre-headless", "java_path"),
        File("/opt/bin/Infortrend/raidcmd_ESDS10.jar", "Infortrend's command line", "infortrend_cli_path"),
    ),
    "kaminario": (PythonPackage("krest", pip="krest>=1.3.0"),),
    "linstordrv": (PythonPackage("linstor", pip="python-linstor>=1.7.0"),),
    "lvm": (Program("lvm", "Debian package lvm2"),),
    "nfs": (Program("mount.nfs", "Debian package nfs-common"),),
    "pure": (PythonPackage("pypureclient", pip="py-pure-client>=1.89.0"),),
    "quobyte": (Program("mount.quobyte", "Quobyte's package quobyte-client"),),
    "rbd": (PythonPackage("rados", debian="python3-rados"), PythonPackage("rbd", debian="python3-rbd")),
    "rsd": (PythonPackage("rsd_lib", pip="rsd-lib>=1.1.0"), PythonPackage("sushy", pip="sushy")),
    "storpool": (File("/etc/storpool.conf", "StorPool's own configuration"),),
    "vzstorage": (Program("mount.fuse.pstorage", "Virtuozzo Storage's client"),),
}
"""By module or package below cinder.volume.drivers; a driver needs what the modules of its class and its bases need."""


def check(volume_driver: str, cls: type[Any], options: Mapping[str, Any]) -> None:
    """Raise MissingRequirement, naming every missing package, when a driver with these options could not work.

    ``cls``: the class at the path ``volume_driver``; ``options``: one that names a module of a driver (IBM's ``proxy``)
    brings that module's requirements.
    """
    missing = [requirement for requirement in requirements_of(cls, options) if not requirement.is_installed(options)]
    if missing:
        raise MissingRequirement(
            f"driver {volume_driver} needs the {' and the '.join(map(str, missing))}, which this image lacks: "
            "see docs/backends/vendor-files.md"
        )


def requirements_of(cls: type[Any], options: Mapping[str, Any]) -> list[Requirement]:
    """All that a driver of this class needs with these options, each once."""
    modules = [base.__module__ for base in cls.__mro__]
    modules += [value for value in options.values() if isinstance(value, str)]
    return list(dict.fromkeys(found for module in modules for found in _of_module(module)))


def _of_module(module: str) -> Iterator[Requirement]:
    if module.startswith(_DRIVERS):
        for key, requirements in REQUIREMENTS.items():
            if f"{module}.".startswith(f"{_DRIVERS}{key}."):
                yield from requirements
