"""Loop drivers for what cannot be timed from outside."""

import os
import time
from pathlib import Path
from typing import Any

from cinder import utils

from csi_plugin.storage.drivers.loop import LoopDriver

COMMANDS = 100
"""Commands that CommandsDriver starts for each volume."""


class GatedDriver(LoopDriver):
    """Makes a volume when the test says so: file ``reached`` appears and ``open`` is waited for, in $TEST_GATE."""

    def create_volume(self, volume: Any) -> Any:
        directory = os.environ["TEST_GATE"]
        Path(directory, "reached").touch()
        while not Path(directory, "open").exists():
            time.sleep(0.02)
        return super().create_volume(volume)


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
