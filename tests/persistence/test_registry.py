"""From persistence_config to a plugin."""

from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence import registry
from csi_plugin.persistence.base import InvalidPersistence, PersistenceDriverBase
from csi_plugin.persistence.dbms import DBPersistence, MemoryDBPersistence
from csi_plugin.persistence.memory import MemoryPersistence


class Plugin(PersistenceDriverBase):
    def __init__(self, location: str, user: str = "nobody") -> None:
        self.arguments = (location, user)


@pytest.mark.parametrize("config", [None, {}, {"storage": None}, {"storage": ""}, {"storage": "memory"}])
def test_memory_is_the_default(config: dict[str, Any] | None) -> None:
    assert type(registry.load_plugin(config)) is MemoryPersistence


def test_built_in_names(tmp_path: Path) -> None:
    assert type(registry.load_plugin({"storage": "memory_db"})) is MemoryDBPersistence
    config = {
        "storage": "db",
        "connection": f"sqlite:///{tmp_path}/records.sqlite",
        "sqlite_synchronous": False,
        "soft_deletes": True,
    }
    plugin = registry.load_plugin(config)
    assert type(plugin) is DBPersistence
    assert plugin.soft_deletes
    assert config["storage"] == "db"
    plugin.close()


def test_a_class_and_an_instance() -> None:
    plugin = registry.load_plugin({"storage": Plugin, "location": "there"})
    assert isinstance(plugin, Plugin)
    assert plugin.arguments == ("there", "nobody")
    assert registry.load_plugin({"storage": plugin, "location": "ignored"}) is plugin


def test_entry_points_of_both_names_and_ours_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins.py").write_text(
        "from csi_plugin.persistence.base import PersistenceDriverBase\n"
        "class Ours(PersistenceDriverBase): pass\n"
        "class Theirs(PersistenceDriverBase): pass\n"
    )
    info = tmp_path / "plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[cinderbox.persistence]\nboth = plugins:Ours\nbroken = no_such_module:Plugin\n"
        "[cinderlib.persistence.storage]\nboth = plugins:Theirs\nold = plugins:Theirs\nmemory = plugins:Theirs\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(registry.load_plugin({"storage": "both"})).__name__ == "Ours"
    assert type(registry.load_plugin({"storage": "old"})).__name__ == "Theirs"
    assert type(registry.load_plugin({"storage": "memory"})) is MemoryPersistence
    assert {"both", "old", "db", "memory", "memory_db"} <= set(registry.available_plugins())
    with pytest.raises(InvalidPersistence, match=r"broken .* cannot be imported: No module named 'no_such_module'"):
        registry.load_plugin({"storage": "broken"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"storage": "no-such"}, "no persistence plugin is named 'no-such'; installed ones are .*db, memory"),
        ({"storage": 7}, "storage must be a plugin's name, class or instance"),
        ({"storage": dict}, "storage must be a plugin's name, class or instance"),
        (
            {"storage": "memory", "connection": "x"},
            "MemoryPersistence: got an unexpected keyword argument 'connection'",
        ),
        ({"storage": "db"}, "DBPersistence: missing a required argument: 'connection'"),
        ({"storage": Plugin}, "Plugin: missing a required argument: 'location'"),
    ],
)
def test_what_is_wrong_is_said(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidPersistence, match=message):
        registry.load_plugin(config)
