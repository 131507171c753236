"""The configuration of a backend, from the settings or a CinderBackend down to the driver."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DEFAULT_DRIVER = "cinder.volume.drivers.lvm.LVMVolumeDriver"
DEFAULT_CONCURRENCY = 32


class Repeated(tuple[str, ...]):
    """The values of an option that a configuration file has more than once: all count if the option takes several, else
    the last."""


@dataclass(frozen=True, kw_only=True)
class BackendConfiguration:
    """What a backend is started with. Raises ValueError for a missing name."""

    name: str
    driver: str = DEFAULT_DRIVER
    """Class path of the driver."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The driver's options, by the names that Cinder and the driver define."""
    secrets: frozenset[str] = frozenset()
    """Names of options whose values no message quotes, besides those that Cinder defines so."""
    topology: Sequence[Mapping[str, str]] = ()
    """CSI segments from which the backend's volumes can be reached; everywhere when empty."""
    max_concurrent_operations: int = DEFAULT_CONCURRENCY
    """Driver calls that may run at once."""
    accepts_missing_volumes: bool = False
    """Whether it may take the place of a backend whose volumes it does not find."""
    is_strict: bool = True
    """Whether an unknown option is an error instead of a warning."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError("every backend needs a volume_backend_name")

    @classmethod
    def from_arguments(
        cls,
        volume_backend_name: str = "",
        *,
        volume_driver: str = DEFAULT_DRIVER,
        topology: Sequence[Mapping[str, str]] | None = (),
        max_concurrent_operations: int = DEFAULT_CONCURRENCY,
        accept_missing_volumes: bool = False,
        strict: bool = False,
        secret_options: Collection[str] = (),
        **options: Any,
    ) -> "BackendConfiguration":
        """The configuration that arguments of Backend stand for. Raises ValueError for a missing name."""
        return cls(
            name=volume_backend_name,
            driver=volume_driver or DEFAULT_DRIVER,
            options=options,
            secrets=frozenset(secret_options),
            topology=tuple(dict(segments) for segments in topology or ()),
            max_concurrent_operations=max_concurrent_operations,
            accepts_missing_volumes=accept_missing_volumes,
            is_strict=strict,
        )

    def driver_options(self) -> dict[str, Any]:
        """What the driver is configured with: its options, its class path and the backend's name."""
        return {**self.options, "volume_driver": self.driver, "volume_backend_name": self.name}

    def arguments(self) -> dict[str, Any]:
        """The arguments of Backend that stand for this configuration."""
        return {
            **self.driver_options(),
            "secret_options": self.secrets,
            "topology": self.topology,
            "max_concurrent_operations": self.max_concurrent_operations,
            "accept_missing_volumes": self.accepts_missing_volumes,
            "strict": self.is_strict,
        }
