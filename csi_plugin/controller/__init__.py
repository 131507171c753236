"""The CSI Controller and GroupController services, and the registry of nodes."""
