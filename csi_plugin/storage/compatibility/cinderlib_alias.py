"""``import cinderlib`` for programs and plugins that still say so: it gets them this package."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = "cinderlib"

_TARGETS = {
    "cinderlib.cmd": "csi_plugin.storage.compatibility.cmd",
    "cinderlib.cmd.cinder_cfg_to_python": "csi_plugin.storage.compatibility.cmd.cinder_cfg_to_python",
    "cinderlib.cmd.cinder_to_yaml": "csi_plugin.storage.compatibility.cmd.cinder_to_yaml",
    "cinderlib.cinderlib": "csi_plugin.storage.backend",
    "cinderlib.exception": "csi_plugin.storage.exception",
    "cinderlib.objects": "csi_plugin.storage.objects",
    "cinderlib.persistence": "csi_plugin.persistence",
    "cinderlib.persistence.base": "csi_plugin.persistence.base",
    "cinderlib.persistence.dbms": "csi_plugin.persistence.dbms",
    "cinderlib.persistence.memory": "csi_plugin.persistence.memory",
    "cinderlib.serialization": "csi_plugin.storage.serialization",
    "cinderlib.workarounds": "csi_plugin.storage.compatibility.workarounds",
}
"""cinderlib's modules and what stands for them; its others were its own affair."""


def install_as_cinderlib(*, eager: bool = False) -> None:
    """Make ``import cinderlib`` and its documented submodules mean this package, in this process. Repeatable.

    ``eager``: load them, and Cinder, at once, as cinderlib did; programs then find ``cinder.objects.Volume``, and have
    ``cinderlib.persistence.base`` without importing it.

    Raises RuntimeError when cinderlib itself has been imported: its classes are in use already.
    """
    if "cinderlib.objects" in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        raise RuntimeError("cinderlib has been imported already; call install_as_cinderlib() before that")
    sys.modules[_PACKAGE] = sys.modules[__name__.partition(".")[0]]
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if eager:
        for name in _TARGETS:
            importlib.import_module(name)


class _Finder(MetaPathFinder, Loader):
    """Answers for every module below cinderlib, so that none is looked up in our folder under a second name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{_PACKAGE}."):
            return None
        if fullname not in _TARGETS:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(_TARGETS[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run under its own name; the import system has given it the alias's spec meanwhile."""
        alias = module.__spec__
        if alias is not None and alias.loader is self:
            module.__spec__ = alias.loader_state
