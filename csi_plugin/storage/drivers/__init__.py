"""Volume drivers of our own; everything else comes from Cinder."""

import csi_plugin.storage.cinder  # noqa: F401  # before a driver imports Cinder itself
