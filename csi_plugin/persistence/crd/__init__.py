"""Metadata in Kubernetes custom resources, for people to read with kubectl."""

from csi_plugin.persistence.crd.store import CRDPersistence

__all__ = ["CRDPersistence"]
