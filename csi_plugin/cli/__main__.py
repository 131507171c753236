"""``python -m csi_plugin.cli`` is the ``cinderbox`` command."""

from csi_plugin.cli.main import app

app()
