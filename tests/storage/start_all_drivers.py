"""Starts every driver of Cinder as a backend without options, in an installation without any vendor's software.

Prints what a user is told: for each class path, as JSON, the error of the backend's status. All drivers are loaded
once; each is started in a forked process of its own, since a driver may do anything, and take any time.
"""

import gc
import json
import multiprocessing
import os
import sys
import tempfile
import warnings
from pathlib import Path

SECONDS = 30.0
AT_ONCE = 8


def hide_vendors() -> None:
    """Make the machine one that has nothing but Cinder's own dependencies, whatever is installed."""
    from csi_plugin.storage.cinder import driver_requirements

    driver_requirements.SYSTEM_PROGRAMS = ()  # type: ignore[assignment]
    driver_requirements.File.is_installed = lambda *_: False  # type: ignore[method-assign]
    os.environ["PATH"] = ""
    for requirements in driver_requirements.REQUIREMENTS.values():
        for requirement in requirements:
            if isinstance(requirement, driver_requirements.PythonPackage):
                sys.modules[requirement.module] = None  # type: ignore[assignment]  # the import of it fails


def load_drivers() -> list[str]:
    import cinder
    from cinder.interface import util

    from csi_plugin.storage.backend import Backend

    Backend.global_setup(file_locks_path=tempfile.mkdtemp(), disable_logs=True, state_path=tempfile.mkdtemp())
    os.chdir(Path(cinder.__file__).parent.parent)  # where Cinder's own search starts
    return sorted(driver.class_fqn for driver in util.get_volume_drivers())


def error_of(driver: str) -> tuple[str, str]:
    """In a process of its own: the error that the status of a backend with this driver shows."""
    from csi_plugin.storage.backend_configuration import BackendConfiguration
    from csi_plugin.storage.backend_set import BackendSet

    options = {"enable_unsupported_driver": True}
    backends = BackendSet([BackendConfiguration(name="b", driver=driver, options=options)])
    backends.start()
    if not backends.wait_until_attempted(SECONDS):
        return driver, f"no answer in {SECONDS:.0f} s"
    (status,) = backends.status()
    return driver, status.error


def main() -> None:
    warnings.simplefilter("ignore")
    gc.disable()  # what is loaded stays
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some modules print when they are imported
    hide_vendors()
    drivers = load_drivers()
    with multiprocessing.get_context("fork").Pool(AT_ONCE, maxtasksperchild=1) as pool:
        errors = dict(pool.imap_unordered(error_of, drivers, chunksize=1))
    with output:
        json.dump(errors, output)


if __name__ == "__main__":
    main()
