"""Loop drivers for what cannot be timed from outside, and one that tells who called it when."""

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cinder import utils

from csi_plugin.storage.drivers.loop import LoopDriver

COMMANDS = 100
"""Commands that CommandsDriver starts for each volume."""


class GatedDriver(LoopDriver):
    """Makes and deletes volumes when the test says so: file ``reached`` (``reached-delete``) appears and
    ``open`` is waited for, in $TEST_GATE."""

    def create_volume(self, volume: Any) -> Any:
        self._pass("reached")
        return super().create_volume(volume)

    def delete_volume(self, volume: Any) -> Any:
        self._pass("reached-delete")
        return super().delete_volume(volume)

    @staticmethod
    def _pass(reached: str) -> None:
        directory = os.environ["TEST_GATE"]
        Path(directory, reached).touch()
        while not Path(directory, "open").exists():
            time.sleep(0.02)


class CommandsDriver(LoopDriver):
    """Starts commands as array drivers do that have a command line tool."""

    def create_volume(self, volume: Any) -> Any:
        for number in range(COMMANDS):
            output, _ = utils.execute("echo", f"{volume.id} {number}")
            assert output == f"{volume.id} {number}\n"
        return super().create_volume(volume)


class ToolDriver(LoopDriver):
    """Runs the vendor's tool, the command in $TEST_TOOL, before it makes a volume whose name begins with ``hung``."""

    def create_volume(self, volume: Any) -> Any:
        if volume.metadata["cinderbox.io/name"].startswith("hung"):
            utils.execute(*os.environ["TEST_TOOL"].split())
        return super().create_volume(volume)


def _witnessed(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        _testify(method.__name__)
        try:
            return method(*arguments, **options)
        finally:
            _testify(method.__name__)

    return call


def _testify(method: str) -> None:
    moment = time.clock_gettime(time.CLOCK_BOOTTIME)
    with Path(os.environ["TEST_WITNESS"]).open("a") as file:  # short lines of several processes do not mix
        file.write(f"{moment:.6f} {os.getpid()} {method}\n")


class WitnessedDriver(LoopDriver):
    """Writes a line to the file $TEST_WITNESS when one of its calls begins or ends: when, which process, which call."""

    do_setup = _witnessed(LoopDriver.do_setup)
    ensure_export = _witnessed(LoopDriver.ensure_export)
    create_volume = _witnessed(LoopDriver.create_volume)
    create_cloned_volume = _witnessed(LoopDriver.create_cloned_volume)
    create_volume_from_snapshot = _witnessed(LoopDriver.create_volume_from_snapshot)
    delete_volume = _witnessed(LoopDriver.delete_volume)
    retype = _witnessed(LoopDriver.retype)
    extend_volume = _witnessed(LoopDriver.extend_volume)
    create_snapshot = _witnessed(LoopDriver.create_snapshot)
    delete_snapshot = _witnessed(LoopDriver.delete_snapshot)
    create_export = _witnessed(LoopDriver.create_export)
    remove_export = _witnessed(LoopDriver.remove_export)
    initialize_connection = _witnessed(LoopDriver.initialize_connection)
    terminate_connection = _witnessed(LoopDriver.terminate_connection)
