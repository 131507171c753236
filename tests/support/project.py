"""Where the project's files are, and names that it promises."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
LOOP_DRIVER = "csi_plugin.storage.drivers.loop.LoopDriver"
