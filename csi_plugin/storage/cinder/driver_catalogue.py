"""The volume drivers that come with Cinder, read in a process of their own: loading all takes seconds and memory."""

import copy
import os
import pickle
import subprocess
import sys
from functools import cache
from typing import Any

_CHILD = """
import gc, os, pickle
gc.disable()  # of what is loaded nothing goes, and the process ends soon
output = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # some modules print when they are imported
from csi_plugin.storage.cinder.driver_descriptions import describe_drivers
pickle.dump(describe_drivers(), output)
output.close()
"""


def supported_drivers(output_version: int = 1) -> dict[str, dict[str, Any]]:
    """Cinder's drivers by class name, each with desc, class_name, class_fqn, version, ci_wiki_name, supported and
    driver_options.

    Two class names are used by two drivers each, so there are two fewer keys than drivers (see ``all_drivers``).
    ``output_version`` 1: every value of an option is text, for humans; 2: values keep their types, and an option's
    type is a dictionary of its limits with oslo.config's own object as ``type_class``. Raises ValueError for another.
    """
    if output_version not in (1, 2):
        raise ValueError("Acceptable versions are 1 and 2")
    return {driver["class_name"]: driver for driver in all_drivers(output_version)}


def all_drivers(output_version: int = 2) -> list[dict[str, Any]]:
    """Every driver as in ``supported_drivers``, ordered by class path. Read once; the answer is the caller's own."""
    return copy.deepcopy(_read()[output_version])


@cache
def _read() -> dict[int, list[dict[str, Any]]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD], check=True, stdout=subprocess.PIPE, env=environment
    )
    found: dict[int, list[dict[str, Any]]] = pickle.loads(child.stdout)
    return found
