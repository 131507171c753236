"""Objects of the NVMe target, each a folder of configfs."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path("/sys/kernel/config/nvmet")
Failed = Callable[[str], None] | None


class CFSNotFound(Exception):
    """There is no such object."""


class _Node:
    """``mode``: ``lookup`` an object that must be there, ``create`` one that must not, or ``any``."""

    def __init__(self, path: Path, mode: str = "lookup") -> None:
        self.path = str(path)
        if mode == "lookup" and not path.is_dir():
            raise CFSNotFound(f"there is no {path.name} in {path.parent}")
        if mode != "lookup":
            path.mkdir(exist_ok=mode == "any")

    def get_attr(self, group: str, name: str) -> str:
        return Path(self.path, f"{group}_{name}").read_text().strip()

    def set_attr(self, group: str, name: str, value: Any) -> None:
        Path(self.path, f"{group}_{name}").write_text(str(value))

    def get_enable(self) -> int:
        return int(Path(self.path, "enable").read_text())

    def set_enable(self, value: int) -> None:
        Path(self.path, "enable").write_text(str(value))

    def delete(self) -> None:
        Path(self.path).rmdir()


class Root(_Node):
    def __init__(self) -> None:
        super().__init__(ROOT)

    @property
    def subsystems(self) -> "Iterator[Subsystem]":
        return (Subsystem(path.name) for path in sorted(ROOT.glob("subsystems/*")))

    @property
    def ports(self) -> "Iterator[Port]":
        return (Port(path.name) for path in sorted(ROOT.glob("ports/*")))


class Subsystem(_Node):
    def __init__(self, nqn: str | None = None, mode: str = "lookup") -> None:
        assert nqn
        self.nqn = nqn
        super().__init__(ROOT / "subsystems" / nqn, mode)

    @classmethod
    def setup(cls, t: dict[str, Any], err_func: Failed = None) -> None:
        """Make the subsystem that a description says."""
        with _reported(err_func):
            subsystem = cls(t["nqn"], mode="create")
            for name, value in t.get("attr", {}).items():
                subsystem.set_attr("attr", name, value)
            for namespace in t.get("namespaces", ()):
                Namespace.setup(subsystem, namespace)

    @property
    def namespaces(self) -> "Iterator[Namespace]":
        return (Namespace(self, path.name) for path in sorted(Path(self.path, "namespaces").iterdir()))

    def delete(self) -> None:
        for namespace in list(self.namespaces):
            namespace.delete()
        super().delete()


class Namespace(_Node):
    MAX_NSID: ClassVar[int] = 8192

    def __init__(self, subsystem: Subsystem, nsid: int | str | None = None, mode: str = "lookup") -> None:
        assert nsid is not None
        self.subsystem, self.nsid = subsystem, int(nsid)
        super().__init__(Path(subsystem.path, "namespaces", str(nsid)), mode)

    @classmethod
    def setup(cls, subsys: Subsystem, n: dict[str, Any], err_func: Failed = None) -> None:
        """Add the namespace that a description says to a subsystem."""
        with _reported(err_func):
            namespace = cls(subsys, n["nsid"], mode="create")
            for name, value in n.get("device", {}).items():
                namespace.set_attr("device", name, value)
            namespace.set_enable(int(n.get("enable", 0)))

    def delete(self) -> None:
        self.set_enable(0)
        super().delete()


class Port(_Node):
    def __init__(self, portid: int | str, mode: str = "lookup") -> None:
        self.portid = int(portid)
        super().__init__(ROOT / "ports" / str(portid), mode)

    @classmethod
    def setup(cls, n: dict[str, Any], err_func: Failed = None) -> None:
        """Make the port that a description says, with the subsystems that it shows."""
        with _reported(err_func):
            port = cls(n["portid"], mode="create")
            for name, value in n["addr"].items():
                port.set_attr("addr", name, value)
            for nqn in n.get("subsystems", ()):
                port.add_subsystem(nqn)

    @property
    def subsystems(self) -> list[str]:
        return [path.name for path in Path(self.path, "subsystems").iterdir()]

    def add_subsystem(self, nqn: str) -> None:
        Path(self.path, "subsystems", nqn).symlink_to(ROOT / "subsystems" / nqn)

    def remove_subsystem(self, nqn: str) -> None:
        Path(self.path, "subsystems", nqn).unlink(missing_ok=True)

    def delete(self) -> None:
        for nqn in self.subsystems:
            self.remove_subsystem(nqn)
        super().delete()


class Host(_Node):
    def __init__(self, nqn: str, mode: str = "lookup") -> None:
        self.nqn = nqn
        super().__init__(ROOT / "hosts" / nqn, mode)


class Referral(_Node):
    """Named by Cinder, never used by it."""


class ANAGroup(_Node):
    """Named by Cinder, never used by it."""


@contextlib.contextmanager
def _reported(err_func: Failed) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if err_func is None:
            raise
        err_func(str(error))
