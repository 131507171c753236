"""Build hook: generates the protocol modules from proto/ for wheels, source archives and editable installs."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtocolBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        script = Path(self.root) / "scripts" / "generate" / "protocol.py"
        runpy.run_path(str(script))["generate"](Path(self.root))
