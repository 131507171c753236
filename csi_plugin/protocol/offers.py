"""What a plugin claims beside its services in GetPluginCapabilities, in words that its instances tell each other."""

from collections.abc import Collection

PLUGIN = "plugin"
"""Among offers that a controller has told; an earlier version tells none."""


def expansion_offers(disabled_features: Collection[str]) -> frozenset[str]:
    """The expansion that the settings leave on: ``expansion``, and ``expansion_online`` of published volumes."""
    if "expand" in disabled_features:
        return frozenset()
    if "expand_online" in disabled_features:
        return frozenset({"expansion"})
    return frozenset({"expansion", "expansion_online"})
