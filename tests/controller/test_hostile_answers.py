"""What an array may have made of its answers: text that no database holds, or that a terminal obeys."""

from typing import Any, ClassVar

import grpc
import pytest

from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage.drivers.loop import LoopDriver
from tests.controller.plugin import Serve
from tests.support.csi import fails

Code = grpc.StatusCode


class HostileDriver(LoopDriver):
    """Creates volumes, and answers ``answer``."""

    answer: ClassVar[dict[str, Any]] = {}

    def create_volume(self, volume: Any) -> Any:
        return (super().create_volume(volume) or {}) | self.answer


@pytest.mark.parametrize(
    "answer",
    [
        {"provider_id": "a\0b"},
        {"provider_location": "a\udcffb"},  # a byte of a program's output that is no text
        {"provider_geometry": "\x1b]0;title\x07"},
        {"metadata": {"key": "a\0b"}},
        {"metadata": {"k" * 256: "value"}},
        {"metadata": {"key": "v" * 256}},
        {"admin_metadata": {"key": "v" * 256}},
    ],
    ids=str,
)
def test_text_that_is_none_is_refused_and_what_was_made_goes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    plugin = serve(driver=f"{__name__}.HostileDriver")
    monkeypatch.setattr(HostileDriver, "answer", answer)
    with fails(Code.INTERNAL, f"the driver's {next(iter(answer))}"):
        plugin.create("pvc-1")
    plugin.service.recovery.run_once()
    assert plugin.files() == []
    monkeypatch.setattr(HostileDriver, "answer", {"provider_id": "naïve\tid \U0001f600"})
    volume = plugin.store.get(VolumeRecord, plugin.create("pvc-1").volume_id)
    assert volume is not None
    assert volume.provider_id == "naïve\tid \U0001f600"
