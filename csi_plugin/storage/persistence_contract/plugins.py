"""A plugin under test, opened as Cinderbox uses it, and the library set up around it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.base import (
    PersistenceDriverBase,
    RecordStore,
)
from csi_plugin.storage import codec
from csi_plugin.storage.backend import setup
from csi_plugin.storage.compatibility.cinderlib_plugin_store import CinderlibPluginStore
from csi_plugin.storage.library_state import STATE

Plugin = RecordStore | PersistenceDriverBase


def open_store(plugin: Plugin) -> RecordStore:
    """The plugin as Cinderbox uses it: as a RecordStore."""
    return plugin if isinstance(plugin, RecordStore) else CinderlibPluginStore(plugin, codec)


def set_up_library(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Any:
    """Set up the library so that it makes objects of backends that nobody set up; what converts records and objects."""
    if not STATE.is_set_up:
        setup(file_locks_path=str(directory))
    monkeypatch.setattr(STATE, "fail_on_missing_backend", False)
    return codec


class PluginContract:
    @pytest.fixture
    def make_plugin(self) -> Callable[[], Plugin]:
        raise NotImplementedError("override make_plugin")

    @pytest.fixture
    def library(self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
        return set_up_library(monkeypatch, tmp_path_factory.getbasetemp())
