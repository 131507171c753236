"""Mount namespaces of tests' own processes."""

from pathlib import Path

# The system's own umount: PATH may have one of a test, which writes down how it is called.
_DROP = (
    'grep -o " /tmp/[^ ]*" /proc/self/mounts | grep -v "^ $0" |'
    " xargs --no-run-if-empty /usr/bin/umount --lazy --quiet; "
)


def private_mounts(keep: Path | None = None) -> tuple[str, ...]:
    """Words before a command that give it a mount namespace, without what other tests have mounted: a copy would keep
    their devices in use. ``keep``: a folder whose mounts it does get."""
    unshare = ("unshare", "--mount", "--propagation", "private")
    return (*unshare, "sh", "-c", f'{_DROP}exec "$@"', str(keep or "/nothing"))
