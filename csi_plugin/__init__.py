"""Cinderbox: OpenStack Cinder's volume drivers as a CSI driver and as a library."""
