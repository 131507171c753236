"""RPCs that act on records wait for a moment while the store reads them anew, rather than fail at once."""

import threading

from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.errors import unavailable

WAIT_SECONDS = 5.0
"""For a watch that broke, or has to begin anew, a second is enough; who is away for longer is not waited for."""


def wait_until_current(context: ControllerContext, call: Call) -> None:
    """Return once what the store has is what is there now. Nothing is held meanwhile but the thread of the RPC.

    Raises UNAVAILABLE when it is not in a few seconds, or before the caller gives up; at once when the caller has, or
    when as many calls wait already as may.
    """
    if context.store.is_current() or _is_current_soon(context, call):
        return
    raise unavailable("the metadata store was unreachable, and what it has now is not read yet; try again")


def _is_current_soon(context: ControllerContext, call: Call) -> bool:
    if not context.store_waits.acquire(blocking=False):
        return False
    try:
        woken = threading.Event()
        context.store.tell_when_current(woken)
        if context.store.is_current():
            return True
        # False: the call has ended already.
        return (
            call.add_callback(woken.set)
            and woken.wait(min(WAIT_SECONDS, current_rpc.time_to_queue()))
            and context.store.is_current()
        )
    finally:
        context.store_waits.release()
