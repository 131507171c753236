"""The rules on the ground layer that several packages share."""

import pytest

from csi_plugin.error_text import error_text
from csi_plugin.known_secrets import keep_secret
from csi_plugin.suggestions import did_you_mean
from csi_plugin.topology import Segments, is_accessible

EAST, WEST = {"zone": "east"}, {"zone": "west"}
HOST = {"zone": "east", "host": "n1"}


@pytest.mark.parametrize(
    ("topology", "wanted", "expected"),
    [
        ([], [EAST], True),
        ([EAST], [], True),
        ([EAST], [EAST], True),
        ([EAST], [WEST], False),
        ([EAST], [WEST, EAST], True),
        ([EAST], [HOST], True),
        ([HOST], [EAST], True),
        ([HOST], [{"zone": "east", "host": "n2"}], False),
    ],
)
def test_accessible_where_one_topology_has_all_segments_of_the_other(
    topology: list[Segments], wanted: list[Segments], expected: bool
) -> None:
    assert is_accessible(topology, wanted) is expected


def test_a_near_name_is_suggested() -> None:
    assert did_you_mean("rbd_pol", ["rbd_user", "rbd_pool"]) == "; did you mean rbd_pool?"
    assert did_you_mean("anything", ["rbd_user", "rbd_pool"]) == ""


def test_the_text_of_an_error() -> None:
    assert error_text(ValueError(" no room \n")) == "no room"
    assert error_text(TimeoutError()) == "TimeoutError"
    assert "secret" not in error_text(ValueError("{'auth_password': 'secret'}"))


def test_a_password_that_is_the_name_of_its_option_hides_no_other() -> None:
    keep_secret(["auth_password", "password", "Secret"])
    assert error_text(ValueError("{'auth_password': 'other'}")) == "{'auth_password': ***}"
