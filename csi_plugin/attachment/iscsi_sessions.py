"""The kernel's table of iSCSI sessions of this host, and the disks that each shows. Nothing here changes anything."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

_SESSIONS = Path("/sys/class/iscsi_session")
_CONNECTIONS = Path("/sys/class/iscsi_connection")
_SESSION_FOLDER = re.compile(r"session\d+")


@dataclass(frozen=True, kw_only=True)
class Session:
    """A session with a target, over one portal."""

    number: str
    """As iscsiadm counts it."""
    target: str
    """The target's iSCSI name."""
    portals: frozenset[tuple[str, int]]
    """Address and port that were logged in to; several with several connections."""
    is_logged_in: bool
    """False while the initiator tries to come back to it."""

    def is_with(self, portal: tuple[str, int], target: str) -> bool:
        return self.target == target and _comparable(portal) in self.portals


def sessions() -> list[Session]:
    """All sessions, logged in or not."""
    return [found for folder in sorted(_SESSIONS.glob("session*")) if (found := _read_session(folder)) is not None]


def units(session: Session) -> dict[int, list[str]]:
    """The kernel's names of a session's disks, by unit number."""
    found: dict[int, list[str]] = {}
    for path in sorted((_SESSIONS / f"session{session.number}" / "device").glob("target*/*:*:*:*/block/*")):
        unit = path.parts[-3].rpartition(":")[2]
        found.setdefault(int(unit), []).append(path.name)
    return found


def session_of(folder: Path) -> Session | None:
    """The session that shows a disk, from the disk's folder; None for other devices."""
    for part in (folder / "device").resolve().parts:
        if _SESSION_FOLDER.fullmatch(part):
            return _read_session(_SESSIONS / part)
    return None


def _read_session(folder: Path) -> Session | None:
    number = folder.name.removeprefix("session")
    try:
        target = (folder / "targetname").read_text().strip()
        state = (folder / "state").read_text().strip()
    except OSError:  # logged out in the meantime
        return None
    portals = {_portal(connection) for connection in _CONNECTIONS.glob(f"connection{number}:*")}
    return Session(
        number=number,
        target=target,
        portals=frozenset(portal for portal in portals if portal is not None),
        is_logged_in=state == "LOGGED_IN",
    )


def _portal(connection: Path) -> tuple[str, int] | None:
    # What was logged in to: a target may have sent the initiator on to another address.
    try:
        address = (connection / "persistent_address").read_text().strip()
        return _comparable((address, int((connection / "persistent_port").read_text())))
    except (OSError, ValueError):
        return None


def _comparable(portal: tuple[str, int]) -> tuple[str, int]:
    """An IPv6 address may be written in several ways."""
    address, port = portal
    try:
        return str(ipaddress.ip_address(address)), port
    except ValueError:
        return address.lower(), port
