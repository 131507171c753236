"""Capacity ranges in bytes as sizes in GiB."""

import pytest

from csi_plugin.controller.requests import sizes
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError
from tests.support.csi import GIB


def capacity(required: int = 0, limit: int = 0) -> csi_pb2.CapacityRange:
    return csi_pb2.CapacityRange(required_bytes=required, limit_bytes=limit)


@pytest.mark.parametrize(
    ("required", "limit", "size"),
    [(0, 0, 1), (1, 0, 1), (GIB, 0, 1), (GIB + 1, 0, 2), (GIB + 1, 2 * GIB, 2), (0, GIB, 1)],
)
def test_required_bytes_are_rounded_up(required: int, limit: int, size: int) -> None:
    assert sizes.size_in_range(capacity(required, limit)) == size


def test_nothing_required_is_the_smallest_size() -> None:
    assert sizes.size_in_range(capacity(), smallest=7) == 7


@pytest.mark.parametrize(
    ("required", "limit", "word"),
    [(GIB + 1, 2 * GIB - 1, "limit_bytes"), (0, GIB - 1, "limit_bytes"), (2**31 * GIB, 0, "at most 2147483647 GiB")],
)
def test_sizes_that_cannot_be(required: int, limit: int, word: str) -> None:
    with pytest.raises(RpcError, match=word) as caught:
        sizes.size_in_range(capacity(required, limit))
    assert caught.value.code.name == "OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("required", "limit", "word"),
    [(-1, 0, "required_bytes must not be negative"), (0, -1, "limit_bytes must not"), (2, 1, "must not exceed")],
)
def test_ranges_that_make_no_sense(required: int, limit: int, word: str) -> None:
    with pytest.raises(RpcError, match=word) as caught:
        sizes.check_range(capacity(required, limit))
    assert caught.value.code.name == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("required", "limit", "expected"),
    [(0, 0, True), (2 * GIB, 2 * GIB, True), (2 * GIB + 1, 0, False), (0, 2 * GIB - 1, False), (GIB, 3 * GIB, True)],
)
def test_fit_of_2_gib(required: int, limit: int, expected: bool) -> None:
    assert sizes.fits(2, capacity(required, limit)) is expected
