"""Files that vendors' tools need, unpacked from a tar at start (ember-csi's X_CSI_SYSTEM_FILES)."""

import logging
import tarfile
from pathlib import Path

LOG = logging.getLogger(__name__)


def unpack(archive: Path, *, root: Path = Path("/")) -> None:
    """Unpack regular files, directories and relative links below ``root``; nothing may lead out of it.

    Devices, absolute links and owners are refused or left out (tarfile's filter "data").

    Raises ValueError naming the archive and the member that cannot be unpacked.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                LOG.info("unpacking %s", member.name)
                tar.extract(member, root, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"system_files {archive} cannot be unpacked: {error}") from error
