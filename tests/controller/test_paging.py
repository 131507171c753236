"""Tokens and pages of listings."""

import base64
import json
from collections.abc import Iterator

import pytest

from csi_plugin.controller.requests.paging import check_max_entries, make_token, read_token, take_page
from csi_plugin.protocol import csi_pb2
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


def _entries(*ids: str) -> Iterator[tuple[str, csi_pb2.Volume]]:
    return ((volume_id, csi_pb2.Volume(volume_id=volume_id)) for volume_id in ids)


@pytest.mark.parametrize(
    ("max_entries", "page", "last"),
    [(0, ["a", "b", "c"], ""), (2, ["a", "b"], "b"), (3, ["a", "b", "c"], ""), (9, ["a", "b", "c"], "")],
)
def test_pages(max_entries: int, page: list[str], last: str) -> None:
    found, last_id = take_page(_entries("a", "b", "c"), max_entries)
    assert ([message.volume_id for message in found], last_id) == (page, last)


@pytest.mark.parametrize("max_entries", [0, 3, 100])
def test_pages_end_before_they_are_too_large_for_a_message(max_entries: int) -> None:
    found, last_id = take_page(_entries(*(letter * 50 for letter in "abcd")), max_entries, most_bytes=130)
    assert ([message.volume_id[0] for message in found], last_id) == (["a", "b"], "b" * 50)
    assert csi_pb2.ListVolumesResponse(entries=[{"volume": volume} for volume in found]).ByteSize() <= 130
    found, last_id = take_page(_entries("a" * 500, "b"), max_entries, most_bytes=130)
    assert len(found) == 1, "one is always there, so that a listing gets on"


def test_an_empty_page() -> None:
    assert take_page(_entries(), 2) == ([], "")
    check_max_entries(0)
    with pytest.raises(RpcError, match="max_entries must not be negative"):
        check_max_entries(-1)
