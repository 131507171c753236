"""Mount flags and options of mkfs, as controller and node read them."""

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError
from csi_plugin.protocol.mkfs_options import FILESYSTEMS, parse_mkfs_options
from csi_plugin.protocol.mount_flags import check_known
from csi_plugin.protocol.mount_rules import check_mount

REFUSED = (
    *("loop", "loop=/dev/loop7", "offset=4096", "sizelimit=1", "bind", "rbind", "move", "remount", "REMOUNT", "abort"),
    *(
        "make-shared",
        "make-rprivate",
        "rslave",
        "X-mount.mkdir",
        "x-mount.mkdir=0777",
        "X-mount.subdir=a",
        "x-systemd.automount",
    ),
    *("helper=nfs", "uhelper=udisks2", "user", "user=joe", "users", "owner", "group", "nofail", "errors=panic"),
    *(
        "fatal_errors=panic",
        "sb=32768",
        "subvol=a",
        "subvolid=5",
        "device=/dev/sda",
        "journal_path=/dev/sda",
        "journal_dev=7",
    ),
    *("logdev=/dev/sda", "rtdev=/dev/sda", "verity.hashdevice=/dev/sda", "ro=recursive", "rw=vfs", "usrjquota=a"),
)


@pytest.mark.parametrize("flag", REFUSED)
def test_flags_that_change_what_is_mounted_are_refused(flag: str) -> None:
    with pytest.raises(RpcError, match=r"capability\.mount\.mount_flags: .* is not allowed") as caught:
        check_mount(csi_pb2.VolumeCapability.MountVolume(mount_flags=["noatime", flag]), field="capability.mount")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "flag",
    [
        *(
            "ro",
            "rw",
            "noatime",
            "nodiratime",
            "relatime",
            "sync",
            "dirsync",
            "nosuid",
            "nodev",
            "noexec",
            "_netdev",
            "discard",
        ),
        *(
            "data=writeback",
            "errors=remount-ro",
            "errors=continue",
            "commit=5",
            "barrier=0",
            "stripe=16",
            "noload",
            "dax=always",
        ),
        *(
            "norecovery",
            "nouuid",
            "logbufs=8",
            "allocsize=64k",
            "inode64",
            "prjquota",
            "compress=zstd:3",
            "autodefrag",
            "ssd",
        ),
    ],
)
def test_flags_that_are_allowed(flag: str) -> None:
    mount = csi_pb2.VolumeCapability.MountVolume(mount_flags=[flag])
    check_mount(mount, field="capability.mount")
    check_known(mount, field="capability.mount")


LABEL = "system_u:object_r:container_file_t:s0"


@pytest.mark.parametrize(
    "flag",
    [
        f'context="{LABEL}:c15,c25"',
        f'fscontext="{LABEL}-s0:c0.c1023"',
        f'defcontext="{LABEL}"',
        f"rootcontext={LABEL}",
        'context="a:b:c"',
    ],
)
def test_labels_of_selinux_are_allowed(flag: str) -> None:
    check_mount(csi_pb2.VolumeCapability.MountVolume(mount_flags=["noatime", flag]), field="capability.mount")


@pytest.mark.parametrize(
    "flags",
    [
        (f"context={LABEL}:c15,c25",),
        (f'context="{LABEL}:c15,c25',),
        (f'context={LABEL}"',),
        (f"context='{LABEL}'",),
        (f'context="{LABEL}",remount',),
        (f'context="{LABEL}"remount',),
        (f'context="{LABEL}\n"',),
        (f'context="{LABEL}"\n',),
        ('context="a:b"',),
        ('context=""',),
        ("context",),
        ("rootcontext=@target",),
        (f'context="{LABEL} "',),
        (f'xcontext="{LABEL}"',),
        (f'context="{LABEL}"', f'context="{LABEL}:c1"'),
    ],
)
def test_what_is_no_label_of_selinux(flags: tuple[str, ...]) -> None:
    with pytest.raises(RpcError, match=r"capability\.mount\.mount_flags: ") as caught:
        check_mount(csi_pb2.VolumeCapability.MountVolume(mount_flags=flags), field="capability.mount")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("filesystem", "text", "words"),
    [
        ("", "", []),
        ("ext4", "-L letters  -I 512", ["-L", "letters", "-I", "512"]),
        ("ext4", "-O '^has_journal,quota' -m1", ["-O", "^has_journal,quota", "-m1"]),
        ("ext3", "-E lazy_itable_init=0,nodiscard,stride=16 -J size=64", None),
        ("ext2", "-b 4096 -N 1000 -F -q", None),
        ("xfs", "-d agcount=8,su=64k,sw=4 -m reflink=1,crc=1 -i size=512 -l size=64m,lazy-count=1 -K", None),
        ("btrfs", "-d single -m dup --nodesize 16k --csum=xxhash -O ^no-holes -L a", None),
        ("", "-d single", None),
        ("", "-d agcount=4", None),
    ],
)
def test_mkfs_options_that_are_allowed(filesystem: str, text: str, words: list[str] | None) -> None:
    found = parse_mkfs_options(text, filesystem=filesystem, field="parameters.mkfs_options")
    assert found == (text.split() if words is None else words)


@pytest.mark.parametrize(
    ("filesystem", "text", "words"),
    [
        *(
            (name, text, "mkfs_options")
            for name in ("", *FILESYSTEMS)
            for text in ("'", "/dev/sda", "etc", "-L $(reboot)")
        ),
        *(
            (name, text, "mkfs_options")
            for name in ("", *FILESYSTEMS)
            for text in ("-L `id`", "-L 'two words'", "-d etc", "-d .")
        ),
        *((name, f"--rootdir{tail}", "'--rootdir'") for name in ("", *FILESYSTEMS) for tail in (" etc", "=etc")),
        ("ext4", "-d etc", "'-d'"),
        ("ext4", "-detc", "'-d'"),
        ("ext4", "-J device=UUID=a", "'device'"),
        ("ext4", "-J size=64,device=sda", "'device'"),
        ("ext4", "-E offset=4096", "'offset'"),
        ("ext4", "-O journal_dev", "journal_dev"),
        ("ext4", "-O quota,journal_dev", "journal_dev"),
        ("ext4", "-z undo", "'-z'"),
        ("ext4", "-n", "'-n'"),
        ("ext4", "-S", "'-S'"),
        ("ext4", "-l blocks", "'-l'"),
        ("ext4", "-t ext2", "'-t'"),
        ("ext4", "-e panic", "panic"),
        ("ext4", "-L", "needs a value"),
        ("ext4", "-qF", "takes no value"),
        ("ext4", "-m -d", "cannot be"),
        ("xfs", "-p proto", "'-p'"),
        ("xfs", "-l logdev=sda", "'logdev'"),
        ("xfs", "-l size=64m,name=sda", "'name'"),
        ("xfs", "-r rtdev=sda", "'-r'"),
        ("xfs", "-d name=sda", "'name'"),
        ("xfs", "-d file=1,name=a,size=1g", "'file'"),
        ("xfs", "-c options=file", "'-c'"),
        ("xfs", "-N", "'-N'"),
        ("btrfs", "-r etc", "'-r'"),
        ("btrfs", "-b 1g", "'-b'"),
        ("btrfs", "-z name", "'-z'"),
        ("btrfs", "-L a sda", "'sda'"),
        ("btrfs", "-- sda", "'--'"),
    ],
)
def test_mkfs_options_that_are_refused(filesystem: str, text: str, words: str) -> None:
    with pytest.raises(RpcError) as caught:
        parse_mkfs_options(text, filesystem=filesystem, field="parameters.mkfs_options")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message.startswith("parameters.mkfs_options: ")
    assert words in caught.value.message
    assert len(caught.value.message) < 900
