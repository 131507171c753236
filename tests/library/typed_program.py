"""What type checkers know of the API: mypy checks this with the package, as `make lint` runs it; nothing runs it."""

from typing import Any, assert_type

import csi_plugin as cl
from csi_plugin.storage.volume import Volume

volume = cl.Backend("name").create_volume(1)
assert_type(volume, Volume)
assert_type(volume.create_snapshot("s").create_volume(), Volume)
assert_type(volume.connect({}).path, str | None)
assert_type(cl.list_supported_drivers(), dict[str, dict[str, Any]])
assert_type(cl.dumps(), str)
assert_type(cl.objects.Volume.get_by_id("id"), Volume)
assert_type(cl.serialization.dumps(), str)
