"""Page tokens: the id after which the next page begins, in a form that tells a foreign token from one of ours."""

import base64
import binascii
import json

from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.protocol.errors import aborted


def make(listing: str, last_id: str) -> str:
    """The token of the page after ``last_id`` in ``listing`` ("volumes", "snapshots", "health")."""
    return base64.urlsafe_b64encode(json.dumps([listing, last_id]).encode()).decode()


def read(listing: str, token: str) -> str | None:
    """The id after which the page begins; None for the first page.

    Raises ABORTED for a token that ``make`` did not make for this listing (CSI spec, "Invalid starting_token").
    """
    if not token:
        return None
    try:
        match json.loads(base64.b64decode(token, altchars=b"-_", validate=True)):
            case [str(found), str(last_id)] if found == listing and is_valid_id(last_id):
                return last_id
    except (binascii.Error, ValueError, RecursionError):
        pass  # not ours
    raise aborted("starting_token is not one that this listing gave out; list again without one")
