"""A volume's life over real protocols, through CSI: the data is what was written, and nothing is left behind."""

import pytest

from tests.lab.volumes import MakeClaim, filesystem_size, read_block, read_file, size_of, write_block, write_file
from tests.node.conftest import GIB


@pytest.mark.feature("block")
def test_raw_block_keeps_data_over_staging(claim: MakeClaim) -> None:
    volume = claim(block=True)
    device = volume.use()
    assert size_of(device) == GIB
    first, last = write_block(device), write_block(device, GIB - 8 * 1024**2)
    volume.unpublish()
    volume.unstage()

    device = volume.use()
    assert read_block(device) == first
    assert read_block(device, GIB - 8 * 1024**2) == last


def files_stay(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    written = write_file(volume.use())
    volume.unpublish()
    volume.unstage()

    assert read_file(volume.use()) == written


@pytest.mark.feature("ext4")
def test_ext4_keeps_files_over_staging(claim: MakeClaim) -> None:
    files_stay(claim, "ext4")


@pytest.mark.feature("xfs")
def test_xfs_keeps_files_over_staging(claim: MakeClaim) -> None:
    files_stay(claim, "xfs")


@pytest.mark.feature("clone")
def test_a_clone_has_the_data_and_room_of_its_own(claim: MakeClaim) -> None:
    source = claim("source", block=True)
    device = source.use()
    written = write_block(device)
    source.unpublish()
    source.unstage()
    clone = claim("clone", block=True, gib=2, source=source)

    copy = clone.use()
    assert size_of(copy) == 2 * GIB
    assert read_block(copy) == written
    write_block(copy)
    assert read_block(source.use()) == written


@pytest.mark.feature("snapshot")
def test_a_snapshot_restores_what_was_then(claim: MakeClaim) -> None:
    source = claim("source", filesystem="ext4")
    then = write_file(source.use())
    source.unpublish()
    source.unstage()
    snapshot = source.snapshot("then")
    write_file(source.use())

    restored = claim("restored", filesystem="ext4", gib=2, snapshot=snapshot)
    pod = restored.use()
    assert read_file(pod) == then
    assert filesystem_size(pod) > 1.5
