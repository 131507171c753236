"""Pages of listings. A token is the id after which the next page begins, in a form that only we make."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.protocol.errors import aborted, invalid_argument

T = TypeVar("T")


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


def take_page(entries: Iterable[T], max_entries: int, *, id_of: Callable[[T], str]) -> tuple[list[T], str]:
    """(the first ``max_entries`` entries, or all when 0; the id to go on after, or "" when that was all)."""
    iterator: Iterator[T] = iter(entries)
    if max_entries == 0:
        return list(iterator), ""
    page = list(islice(iterator, max_entries))
    more = next(iterator, None) is not None
    return page, id_of(page[-1]) if more else ""
