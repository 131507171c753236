"""What the loop driver has in its directory."""

from pathlib import Path

MARK = ".cinderbox-storage"
"""The file with the directory's id."""


def file_names(directory: Path) -> list[str]:
    """Names of all files but the one with the directory's id: of volumes and snapshots, and of what is unfinished."""
    return sorted(path.name for path in directory.iterdir() if path.name != MARK)
