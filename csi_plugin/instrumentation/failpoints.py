"""Named points at which a test can kill the process, to show that a crash there loses and doubles nothing.

``CINDERBOX_FAILPOINT=create.recorded`` kills the process (SIGKILL, as a power cut would) when it gets to that point.
Without the variable a point costs one comparison.
"""

import os
import signal

_ARMED = os.environ.get("CINDERBOX_FAILPOINT")


def failpoint(name: str) -> None:
    """Die here if ``name`` is the armed point."""
    if _ARMED is not None and name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
