"""StorageClass and VolumeAttributesClass parameters, as what they mean to Cinder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from csi_plugin.controller.requests.labels import PREFIX as CO_PREFIX
from csi_plugin.protocol.errors import invalid_argument
from csi_plugin.protocol.mkfs_options import check_oldest_kernel
from csi_plugin.suggestions import did_you_mean

KUBERNETES_PREFIX = "storage.kubernetes.io/"

BACKEND = "backend"
POOL = "pool_name"
MKFS_OPTIONS = "mkfs_options"
OLDEST_KERNEL = "oldest_kernel"
ENCRYPTION = "encryption"
ENCRYPTION_CIPHER = "encryption_cipher"
ENCRYPTION_KEY_SIZE = "encryption_key_size"
ENCRYPTION_DISCARDS = "encryption_discards"

PLAIN = (
    BACKEND,
    POOL,
    MKFS_OPTIONS,
    OLDEST_KERNEL,
    ENCRYPTION,
    ENCRYPTION_CIPHER,
    ENCRYPTION_KEY_SIZE,
    ENCRYPTION_DISCARDS,
)
EXTRA_SPEC_PREFIXES = ("extra_specs.", "xtra_")
QOS_PREFIXES = ("qos.", "qos_")
"""The second of each is ember-csi's."""

ENCRYPTION_PROVIDERS = ("luks", "luks2")
ENCRYPTION_KEY_SIZES = ("128", "192", "256", "512")
_GROUP_SNAPSHOT_KEYS = ("deletionPolicy",)
"""Kubernetes' storage suite puts the class' field among its parameters too."""
_CIPHER = re.compile(
    r"(aes|serpent|twofish|camellia|cast5|cast6|sm4|blowfish)(-(xts|cbc|ecb|lrw|pcbc|ctr)(-(plain(64(be)?)?|benbi|null|essiv:(sha1|sha256|sha512)))?)?",
    re.ASCII,
)
_ANY_OF = "<or>"
"""Of the operators of Cinder's filters, the one that fails where nothing follows it."""
_VALUE_LIMIT = 255
"""Characters that Cinder's schema has for the key and for the value of a spec."""

_MKFS_OPTIONS_LIMIT = 3072
"""Bytes: they are in volume_context with what else the node and Kubernetes put there, all of which has 4 KiB."""


@dataclass(frozen=True, kw_only=True)
class VolumeParameters:
    """Parameters of a new volume. Empty texts and dicts mean "not given"."""

    backend: str = ""
    pool: str = ""
    extra_specs: dict[str, str] = field(default_factory=dict)
    qos_specs: dict[str, str] = field(default_factory=dict)
    mkfs_options: str = ""
    oldest_kernel: str = ""
    encryption: dict[str, str] = field(default_factory=dict)
    """provider (luks, luks2), and cipher, key_size and discards ("true") where given."""


def parse_volume_parameters(parameters: Mapping[str, str], mutable_parameters: Mapping[str, str]) -> VolumeParameters:
    """Parse CreateVolumeRequest.parameters and .mutable_parameters; the latter win where both name a spec.

    Keys that the sidecars add (``csi.storage.k8s.io/``) are left to ``labels``. Raises INVALID_ARGUMENT that names
    the parameter, what is allowed and the nearest allowed name.
    """
    plain: dict[str, str] = {}
    extra_specs: dict[str, str] = {}
    qos_specs: dict[str, str] = {}
    for key, value in without_sidecar_keys(parameters).items():
        if key in PLAIN:
            plain[key] = value
        elif not _add_spec(key, value, extra_specs, qos_specs, parameter="parameters"):
            raise _unknown("parameters", key, PLAIN)
    if (length := len(plain.get(MKFS_OPTIONS, "").encode())) > _MKFS_OPTIONS_LIMIT:
        raise invalid_argument(
            f"parameters: {MKFS_OPTIONS} must have at most {_MKFS_OPTIONS_LIMIT} bytes, not {length}"
        )
    oldest_kernel = plain.get(OLDEST_KERNEL, "")
    check_oldest_kernel(oldest_kernel, field=f"parameters: {OLDEST_KERNEL}")
    mutable_extra_specs, mutable_qos_specs = parse_mutable_parameters(mutable_parameters)
    return VolumeParameters(
        backend=plain.get(BACKEND, ""),
        pool=plain.get(POOL, ""),
        extra_specs=extra_specs | mutable_extra_specs,
        qos_specs=qos_specs | mutable_qos_specs,
        mkfs_options=plain.get(MKFS_OPTIONS, ""),
        oldest_kernel=oldest_kernel,
        encryption=_encryption(plain),
    )


def parse_mutable_parameters(mutable_parameters: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(extra specs, QoS specs) that a VolumeAttributesClass sets. Raises INVALID_ARGUMENT as above."""
    extra_specs: dict[str, str] = {}
    qos_specs: dict[str, str] = {}
    for key, value in without_sidecar_keys(mutable_parameters).items():
        if not _add_spec(key, value, extra_specs, qos_specs, parameter="mutable_parameters"):
            raise _unknown("mutable_parameters", key, ())
    return extra_specs, qos_specs


def without_sidecar_keys(parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters that make an object what it is: those that the sidecars add only say whose it is."""
    return {key: value for key, value in parameters.items() if not key.startswith(CO_PREFIX)}


def own_context(volume_context: Mapping[str, str]) -> dict[str, str]:
    """What of a request's volume_context can have come from us: Kubernetes keeps entries of its own among ours
    (external-provisioner's identity, say).
    """
    return {key: value for key, value in volume_context.items() if not key.startswith(KUBERNETES_PREFIX)}


def check_snapshot_parameters(parameters: Mapping[str, str]) -> None:
    """Refuse parameters of a snapshot class: there are none but those that the sidecars add."""
    for key in without_sidecar_keys(parameters):
        raise invalid_argument(f"parameters: {key!r} is unknown; snapshots take no parameters")


def check_group_snapshot_parameters(parameters: Mapping[str, str]) -> None:
    """Refuse parameters of a group snapshot class, but for those that Kubernetes' tools put there."""
    check_snapshot_parameters({key: value for key, value in parameters.items() if key not in _GROUP_SNAPSHOT_KEYS})


def _add_spec(key: str, value: str, extra_specs: dict[str, str], qos_specs: dict[str, str], *, parameter: str) -> bool:
    """Put a spec where it belongs; False when the key names none."""
    name, specs = _spec(key, extra_specs, qos_specs)
    if specs is None:
        return False
    for text, what in ((name, "name"), (value, "value")):
        if not 0 < len(text) <= _VALUE_LIMIT or not text.isprintable():
            raise invalid_argument(
                f"{parameter}[{key!r}]: the {what} of a spec must have 1 to {_VALUE_LIMIT} printable characters"
            )
    if value.split() == [_ANY_OF]:
        raise invalid_argument(f"{parameter}[{key!r}]: {_ANY_OF} needs values, as in '{_ANY_OF} ssd {_ANY_OF} nvme'")
    if specs.get(name, value) != value:
        raise invalid_argument(f"{parameter}[{key!r}]: {name!r} is given twice with different values")
    specs[name] = value
    return True


def _spec(key: str, extra_specs: dict[str, str], qos_specs: dict[str, str]) -> tuple[str, dict[str, str] | None]:
    for prefixes, specs in ((EXTRA_SPEC_PREFIXES, extra_specs), (QOS_PREFIXES, qos_specs)):
        for prefix in prefixes:
            if key.startswith(prefix):
                return key.removeprefix(prefix), specs
    if ":" in key:  # Cinder's scoped extra specs, such as hpe3par:provisioning
        return key, extra_specs
    return key, None


def _encryption(plain: Mapping[str, str]) -> dict[str, str]:
    provider = plain.get(ENCRYPTION, "")
    cipher = plain.get(ENCRYPTION_CIPHER, "")
    key_size = plain.get(ENCRYPTION_KEY_SIZE, "")
    discards = plain.get(ENCRYPTION_DISCARDS, "")
    if not provider:
        for name in (ENCRYPTION_CIPHER, ENCRYPTION_KEY_SIZE, ENCRYPTION_DISCARDS):
            if plain.get(name):
                raise invalid_argument(
                    f"parameters: {name} needs {ENCRYPTION} to be one of {_list(ENCRYPTION_PROVIDERS)}"
                )
        return {}
    if discards not in ("", "true", "false"):
        raise invalid_argument(f"parameters: {ENCRYPTION_DISCARDS} must be true or false, not {discards!r}")
    if provider not in ENCRYPTION_PROVIDERS:
        raise invalid_argument(
            f"parameters: {ENCRYPTION} must be one of {_list(ENCRYPTION_PROVIDERS)}, not {provider!r}"
        )
    if key_size and key_size not in ENCRYPTION_KEY_SIZES:
        raise invalid_argument(
            f"parameters: {ENCRYPTION_KEY_SIZE} must be one of {_list(ENCRYPTION_KEY_SIZES)}, not {key_size!r}"
        )
    if cipher and not _CIPHER.fullmatch(cipher):
        raise invalid_argument(
            f"parameters: {ENCRYPTION_CIPHER} must be a dm-crypt cipher such as aes-xts-plain64 (cipher, mode and IV: "
            "aes, serpent, twofish or camellia; xts or cbc; plain64 or essiv:sha256, for example)"
        )
    if "-xts-" in cipher and key_size in ("128", "192"):
        raise invalid_argument(f"parameters: {ENCRYPTION_KEY_SIZE} must be 256 or 512 with {cipher}, not {key_size}")
    given_values = {"provider": provider, "cipher": cipher, "key_size": key_size}
    if discards == "true":
        given_values["discards"] = discards
    return {name: value for name, value in given_values.items() if value}


def _unknown(parameter: str, key: str, names: tuple[str, ...]) -> Exception:
    forms = [*names, *(f"{prefix}<name>" for prefix in (*EXTRA_SPEC_PREFIXES, *QOS_PREFIXES)), "<scope>:<name>"]
    candidates = [*names, *EXTRA_SPEC_PREFIXES, *QOS_PREFIXES]
    hint = did_you_mean(key, candidates)
    return invalid_argument(f"{parameter}: {key!r} is unknown; allowed are {_list(forms)}{hint}")


def _list(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)
