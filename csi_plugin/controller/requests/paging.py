"""Pages of listings. A token is the id after which the next page begins, in a form that only we make."""

import base64
import binascii
import json
from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.protocol.errors import aborted, invalid_argument

M = TypeVar("M", bound=Message)

PAGE_BYTES = 3 * 1024**2
"""Of a page: gRPC's clients refuse a message of more than 4 MiB."""
_OVERHEAD = 6
"""Bytes that a message costs in the one that it is in: the field's number and the length."""


def make_token(listing: str, last_id: str) -> str:
    """The token of the page after ``last_id`` in ``listing`` ("volumes", "snapshots", "health")."""
    return base64.urlsafe_b64encode(json.dumps([listing, last_id]).encode()).decode()


def read_token(listing: str, token: str) -> str | None:
    """The id after which the page begins; None for the first page.

    Raises ABORTED for a token that ``make_token`` did not make for this listing (CSI spec, "Invalid starting_token").
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


def check_max_entries(max_entries: int) -> None:
    """Refuse a negative number, with INVALID_ARGUMENT; 0 is no limit."""
    if max_entries < 0:
        raise invalid_argument(f"max_entries must not be negative, not {max_entries}")


def take_page(
    entries: Iterable[tuple[str, M]], max_entries: int, *, most_bytes: int = PAGE_BYTES
) -> tuple[list[M], str]:
    """(the first entries, the id to go on after, or "" when that was all).

    ``entries``: ids and messages. A page has at most ``max_entries``, unless that is 0, and never more than fit into
    ``most_bytes``, but always one.
    """
    page: list[M] = []
    size, last_id = 0, ""
    for entry_id, message in entries:
        size += message.ByteSize() + _OVERHEAD
        if page and (len(page) == max_entries or size > most_bytes):
            return page, last_id
        page.append(message)
        last_id = entry_id
    return page, ""
