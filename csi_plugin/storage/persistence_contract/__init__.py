"""Contract tests for persistence plugins. Plugin authors import them from ``csi_plugin.persistence.testing``."""
