"""Where metadata lives: record types, the plugin interface and the built-in plugins."""

from typing import Any


def setup(config: Any) -> Any:
    """The plugin of a ``persistence_config``, as cinderlib's function of that name: see ``registry.load_plugin``."""
    from csi_plugin.persistence import registry

    return registry.load_plugin(config)
