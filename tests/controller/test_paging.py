"""Tokens and pages of listings."""

import base64
import json

import pytest

from csi_plugin.controller.requests.paging import check_max_entries, make_token, read_token, take_page
from csi_plugin.protocol.errors import RpcError


def test_a_token_holds_the_id_after_which_the_page_begins() -> None:
    assert read_token("volumes", make_token("volumes", "id-1")) == "id-1"
    assert read_token("volumes", "") is None


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "7",
        "nothing of ours",
        make_token("snapshots", "id-1"),
        _encoded(["volumes"]),
        _encoded(["volumes", 1]),
        _encoded(["volumes", "no\x00thing"]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        "\u00e9",
    ],
)
def test_foreign_tokens_are_aborted(token: str) -> None:
    with pytest.raises(RpcError, match="starting_token") as caught:
        read_token("volumes", token)
    assert caught.value.code.name == "ABORTED"


@pytest.mark.parametrize(
    ("max_entries", "page", "last"),
    [(0, ["a", "b", "c"], ""), (2, ["a", "b"], "b"), (3, ["a", "b", "c"], ""), (9, ["a", "b", "c"], "")],
)
def test_pages(max_entries: int, page: list[str], last: str) -> None:
    assert take_page(["a", "b", "c"], max_entries, id_of=str) == (page, last)


def test_an_empty_page() -> None:
    assert take_page([], 2, id_of=str) == ([], "")
    check_max_entries(0)
    with pytest.raises(RpcError, match="max_entries must not be negative"):
        check_max_entries(-1)
