"""``import cinderlib``, answered by Cinderbox."""

import csi_plugin

# The import system takes what it puts into sys.modules.
csi_plugin.install_as_cinderlib(eager=True)
