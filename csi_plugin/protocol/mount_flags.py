"""The mount flags that filesystems know: what none of them does is refused before a volume is made for it, and not
confirmed for one that is there.

A node asks the kernel alone, which may know others.
"""

from collections.abc import Mapping

from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import invalid_argument
from csi_plugin.suggestions import did_you_mean


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALL = _names(
    """
    ro rw sync async dirsync atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime
    lazytime nolazytime dev nodev suid nosuid exec noexec mand nomand iversion noiversion symfollow nosymfollow
    defaults auto noauto silent loud _netdev comment context fscontext defcontext rootcontext seclabel
    """
)
"""Of mount(8) and of the kernel's, whatever the filesystem."""

_EXT = _names(
    """
    acl auto_da_alloc barrier bh block_validity bsddf bsdgroups check commit data data_err dax debug
    debug_want_extra_isize delalloc dioread_lock dioread_nolock discard errors extents fc_debug_force grpid
    grpquota i_version init_itable inlinecrypt inode_readahead_blks journal journal_async_commit
    journal_checksum journal_ioprio jqfmt max_batch_time max_dir_size_kb mb_optimize_scan mblk_io_submit
    min_batch_time minixdf noacl noauto_da_alloc nobarrier nobh noblock_validity nocheck nodelalloc nodiscard
    noextents nogrpid noinit_itable nojournal_checksum noload nombcache no_mbcache nomblk_io_submit
    noprefetch_block_bitmaps no_prefetch_block_bitmaps noquota norecovery noreservation nouid32 nouser_xattr
    nowarn_on_error oldalloc orlov prefetch_block_bitmaps prjquota quota reservation resgid resuid stripe
    sysvgroups test_dummy_encryption user_xattr usrquota warn_on_error xip
    """
)
_XFS = _names(
    """
    allocsize attr2 barrier bsdgroups dax delaylog discard filestreams gqnoenforce gquota grpid grpquota ikeep
    inode32 inode64 largeio lifetime logbsize logbufs max_atomic_write max_open_zones noalign noattr2 nobarrier
    nodelaylog nodiscard nogrpid noikeep nolargeio nolifetime noquota norecovery nouuid pqnoenforce pquota
    prjquota qnoenforce quota sunit swalloc swidth sysvgroups uqnoenforce uquota usrquota wsync
    """
)
_BTRFS = _names(
    """
    acl autodefrag barrier check_int check_int_data clear_cache commit compress compress-force datacow datasum
    degraded discard enospc_debug fatal_errors flushoncommit fragment ignorebadroots ignoredatacsums inode_cache
    max_inline metadata_ratio noacl noautodefrag nobarrier nocompress nodatacow nodatasum nodiscard
    noenospc_debug noflushoncommit noinode_cache nologreplay norecovery nospace_cache nossd nossd_spread
    notreelog recovery ref_verify rescan_uuid_tree rescue skip_balance space_cache ssd ssd_spread thread_pool
    treelog usebackuproot user_subvol_rm_allowed
    """
)
_KNOWN: Mapping[str, frozenset[str]] = {"ext2": _EXT, "ext3": _EXT, "ext4": _EXT, "xfs": _XFS, "btrfs": _BTRFS}


def check_known(mount: csi_pb2.VolumeCapability.MountVolume, *, field: str) -> None:
    """Raises INVALID_ARGUMENT for a flag that the filesystem has in no kernel, naming those that it has.

    Without a filesystem, which the node chooses then, what one of them knows passes.
    """
    known = _ALL | (_KNOWN[mount.fs_type] if mount.fs_type else frozenset().union(*_KNOWN.values()))
    for flag in mount.mount_flags:
        name = flag.partition("=")[0]
        if name not in known:
            raise invalid_argument(
                f"{field}.mount_flags: {flag!r} is no mount flag of "
                f"{mount.fs_type or 'any filesystem that volumes may have'}{did_you_mean(name, known)}; these are: "
                f"{' '.join(sorted(known))}"
            )
