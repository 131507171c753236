"""Files that others can change, such as those on a share, opened as what they have to be: regular files, and no links.

What a client of a share puts in a volume's place must not lead to a device or a file of this host.
"""

import os
import stat

from csi_plugin.attachment.errors import AttachmentError

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def open_below(folder: str, name: str, *, read_only: bool) -> int:
    """A descriptor of a regular file below a folder; no part of ``name`` may be a link.

    Raises AttachmentError for anything else, and OSError where it cannot be opened.
    """
    *folders, last = name.split("/")
    if not all(part not in ("", ".", "..") and "\0" not in part for part in (*folders, last)):
        raise AttachmentError(f"the volume's file {name!r} must be named below {folder}, without . and ..")
    held = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            held = _step(held, part, os.O_DIRECTORY, f"{folder}/{name}")
        held = _step(held, last, 0, f"{folder}/{name}")
        kind = stat.S_IFMT(os.fstat(held).st_mode)
        if kind != stat.S_IFREG:
            raise AttachmentError(f"{folder}/{name} is {_KINDS.get(kind, 'no file')}, and a volume is a regular file")
        # The very file that was looked at, whatever has its name by now.
        return os.open(f"/proc/self/fd/{held}", (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    finally:
        os.close(held)


def _step(held: int, part: str, flags: int, whole: str) -> int:
    """A descriptor of what is in a folder, in place of the folder's, which is closed. A link is opened as itself."""
    try:
        found = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=held)
    except FileNotFoundError:
        raise AttachmentError(f"there is no file {whole} on this host") from None
    except NotADirectoryError:
        raise AttachmentError(f"{part} in {whole} is no folder, and links are not followed there") from None
    os.close(held)
    return found
