"""Contract tests for persistence plugins, ours and third parties'.

Inherit from the classes in a test module of your own and say how to open your plugin::

    from csi_plugin.persistence.testing import ObjectContract, RecordContract

    class TestRecords(RecordContract):
        persistent = True

        @pytest.fixture
        def make_plugin(self, tmp_path):
            return lambda: MyPlugin(location=tmp_path / "metadata")

    class TestObjects(ObjectContract):
        ...

``make_plugin`` opens the same storage at each call, empty at the first call of a test. A plugin with just the thirteen
documented methods is tested in both ways: RecordContract puts Cinderbox's CinderlibPluginStore on top, as ``setup``
does. pytest and hypothesis are needed.
"""

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from csi_plugin.storage.persistence_contract.objects import ObjectContract as ObjectContract
    from csi_plugin.storage.persistence_contract.plugins import Plugin as Plugin
    from csi_plugin.storage.persistence_contract.plugins import open_store as open_store
    from csi_plugin.storage.persistence_contract.plugins import set_up_library as set_up_library
    from csi_plugin.storage.persistence_contract.records import RecordContract as RecordContract
    from csi_plugin.storage.persistence_contract.samples import new_id as new_id
    from csi_plugin.storage.persistence_contract.samples import samples as samples

_CONTRACT = "csi_plugin.storage.persistence_contract"
_MODULES = {
    "ObjectContract": "objects",
    "Plugin": "plugins",
    "RecordContract": "records",
    "new_id": "samples",
    "open_store": "plugins",
    "samples": "samples",
    "set_up_library": "plugins",
}
"""Where each name is: in the library, which stands above this package and is loaded at the first use."""

pytest.register_assert_rewrite(_CONTRACT)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{_CONTRACT}.{_MODULES[name]}"), name)
