"""Metadata in Kubernetes custom resources, for humans to read with kubectl."""

from csi_plugin.persistence.crd.store import CRDPersistence

__all__ = ["CRDPersistence"]
