"""Who uses an image of Ceph's after its connection has ended is kept from writing. The storage lab shows it with Ceph;
here a stand-in for librbd tells which clients there are."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from csi_plugin.persistence.base import LeadershipLost
from csi_plugin.storage.cinder import driver_calls
from csi_plugin.storage.cinder.adaptations import rbd_fencing

NODE, OTHER = "192.0.2.5:0/1001", "192.0.2.6:0/1002"
CONNECTOR = {"ip": "192.0.2.5", "host": "node1"}
VOLUME = SimpleNamespace(name="volume-1")


class ImageNotFound(Exception):
    pass


class Image:
    def __init__(self, driver: "Driver") -> None:
        self._driver = driver

    def watchers_list(self) -> list[dict[str, Any]]:
        return [{"addr": address, "id": 1, "cookie": 2} for address in self._driver.watchers.pop(0)]

    def list_lockers(self) -> dict[str, Any]:
        lockers = [("client.1", "auto 1", address) for address in self._driver.lockers]
        return {"tag": "internal", "exclusive": True, "lockers": lockers} if lockers else {}

    def close(self) -> None:
        pass


class Driver:
    """As far as the fencing calls Cinder's. ``watchers``: those of one look after the other; the last stays."""

    def __init__(self, *watchers: list[str], lockers: list[str] | None = None, status: int = 0) -> None:
        self.watchers = [*watchers, *[watchers[-1]] * rbd_fencing._LOOKS]
        self.lockers = lockers or []
        self.commands: list[dict[str, Any]] = []
        self._status = status
        self.rbd = SimpleNamespace(Image=self._image, ImageNotFound=ImageNotFound, Error=Exception)

    def _image(self, ioctx: object, name: str, *, snapshot: object, read_only: bool) -> Image:
        assert read_only, "otherwise this process is a watcher itself"
        return Image(self)

    def _connect_to_rados(self, *_: object) -> tuple[Any, object]:
        return SimpleNamespace(mon_command=self._command, wait_for_latest_osdmap=lambda: None), object()

    def _disconnect_from_rados(self, *_: object) -> None:
        pass

    def _command(self, command: str, _data: bytes) -> tuple[int, bytes, str]:
        self.commands.append(json.loads(command))
        return self._status, b"", "access denied" if self._status else ""

    @property
    def blocked(self) -> list[str]:
        assert all(command["prefix"] == "osd blocklist" for command in self.commands)
        # Ceph takes no whole number.
        assert all(isinstance(command["expire"], float) for command in self.commands)
        return [command["addr"] for command in self.commands]


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbd_fencing, "_LOOK_SECONDS", 0)


def fence(driver: Any, connector: dict[str, Any] | None = CONNECTOR, *, last: bool = True, force: bool = False) -> None:
    rbd_fencing.fence(driver, VOLUME, connector, last=last, force=force)


@pytest.mark.parametrize(
    ("watchers", "lockers", "last", "blocked"),
    [
        ([], [], True, []),
        ([NODE], [], True, [NODE]),
        ([], [NODE], True, [NODE]),  # its watch has run out, its lock has not
        ([NODE], [NODE], True, [NODE]),
        ([NODE, OTHER], [], False, [NODE]),
        ([OTHER], [], False, []),
        (["v1:192.0.2.5:0/7"], [], True, ["v1:192.0.2.5:0/7"]),
    ],
)
def test_clients_of_the_host_are_blocked(
    watchers: list[str], lockers: list[str], last: bool, blocked: list[str]
) -> None:
    driver = Driver(watchers, lockers=lockers)
    fence(driver, last=last)
    assert driver.blocked == blocked


def test_address_of_version_6() -> None:
    driver = Driver(["[2001:db8::5]:0/1"])
    fence(driver, {"ip": "2001:0db8:0::5"})
    assert driver.blocked == ["[2001:db8::5]:0/1"]


def test_all_hosts_at_once() -> None:
    driver = Driver([NODE, OTHER])
    fence(driver, None)
    assert driver.blocked == [NODE, OTHER]


def test_who_looks_for_a_moment_is_let_be() -> None:
    driver = Driver([NODE], [NODE], [])
    fence(driver)
    assert driver.blocked == []


def test_a_client_that_may_be_another_host_is_named() -> None:
    from cinder import exception

    driver = Driver([OTHER])
    with pytest.raises(exception.VolumeIsBusy, match=OTHER):
        fence(driver)
    fence(Driver([OTHER]), force=True)
    assert driver.blocked == []


def test_a_controller_that_no_longer_leads_blocks_nobody() -> None:
    driver, commands_before = Driver([NODE]), list[int]()
    fence(driver_calls.guarded(driver, before=lambda: commands_before.append(len(driver.commands)), backend="ceph"))
    for last in range(commands_before.count(0)):
        driver, left = Driver([NODE]), iter(range(last))

        def check(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise LeadershipLost("it may have run out")

        with pytest.raises(LeadershipLost):
            fence(driver_calls.guarded(driver, before=check, backend="ceph"))
        assert driver.blocked == []


def test_a_user_without_the_right_to_block() -> None:
    from cinder import exception

    with pytest.raises(exception.VolumeBackendAPIException, match="profile rbd"):
        fence(Driver([NODE], status=-13))


def test_other_drivers_are_not_asked() -> None:
    fence(SimpleNamespace())
