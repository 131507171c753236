"""``import cinderlib``, answered by Cinderbox."""

import csi_plugin

csi_plugin.install_as_cinderlib()  # the import system takes what it puts into sys.modules
