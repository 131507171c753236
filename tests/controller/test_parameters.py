"""Parameters of classes, as what they mean to Cinder."""

import pytest

from csi_plugin.controller.requests.parameters import (
    VolumeParameters,
    check_snapshot_parameters,
    own_context,
    parse_mutable_parameters,
    parse_volume_parameters,
    without_sidecar_keys,
)
from csi_plugin.protocol.errors import RpcError


def test_no_parameters() -> None:
    assert parse_volume_parameters({}, {}) == VolumeParameters()


def test_plain_parameters() -> None:
    parsed = parse_volume_parameters({"backend": "fast", "pool_name": "p1", "mkfs_options": "-m 0"}, {})

    assert (parsed.backend, parsed.pool, parsed.mkfs_options) == ("fast", "p1", "-m 0")


@pytest.mark.parametrize("key", ["extra_specs.a:b", "xtra_a:b", "a:b"])
def test_forms_of_an_extra_spec(key: str) -> None:
    assert parse_volume_parameters({key: "1"}, {}).extra_specs == {"a:b": "1"}


@pytest.mark.parametrize("key", ["qos.total_iops_sec", "qos_total_iops_sec"])
def test_forms_of_a_qos_spec(key: str) -> None:
    assert parse_volume_parameters({key: "1"}, {}).qos_specs == {"total_iops_sec": "1"}


def test_mutable_parameters_win() -> None:
    parsed = parse_volume_parameters({"qos.a": "1", "xtra_b": "1", "xtra_c": "1"}, {"qos.a": "2", "xtra_b": "2"})

    assert parsed.qos_specs == {"a": "2"}
    assert parsed.extra_specs == {"b": "2", "c": "1"}


def test_encryption() -> None:
    given = {"encryption": "luks2", "encryption_cipher": "aes-xts-plain64", "encryption_key_size": "512"}

    assert parse_volume_parameters(given, {}).encryption == {
        "provider": "luks2",
        "cipher": "aes-xts-plain64",
        "key_size": "512",
    }


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"bakend": "fast"}, ["parameters: 'bakend' is unknown", "backend"]),
        ({"xtra_": "1"}, ["parameters['xtra_']", "1 to 255"]),
        ({"xtra_a": ""}, ["parameters['xtra_a']", "1 to 255"]),
        ({"xtra_a": "x" * 256}, ["1 to 255"]),
        ({"xtra_a": "x\n"}, ["printable"]),
        ({"xtra_a": " <or> "}, ["parameters['xtra_a']", "<or> needs values"]),
        ({"xtra_a": "1", "extra_specs.a": "2"}, ["'a' is given twice"]),
        ({"oldest_kernel": "new"}, ["oldest_kernel must be a version of Linux such as 5.10", "new"]),
        ({"encryption": "plain"}, ["encryption must be one of luks, luks2"]),
        ({"encryption_cipher": "aes"}, ["encryption_cipher needs encryption"]),
        ({"encryption_key_size": "256"}, ["encryption_key_size needs encryption"]),
        ({"encryption_discards": "true"}, ["encryption_discards needs encryption"]),
        ({"encryption": "luks", "encryption_discards": "yes"}, ["encryption_discards must be true or false", "yes"]),
        ({"encryption": "luks", "encryption_key_size": "100"}, ["encryption_key_size must be one of 128"]),
        ({"encryption": "luks", "encryption_cipher": "aes; rm"}, ["encryption_cipher must be a dm-crypt cipher"]),
        ({"encryption": "luks", "encryption_cipher": "rot13-xts-plain64"}, ["encryption_cipher must be a dm-crypt"]),
        (
            {"encryption": "luks", "encryption_cipher": "aes-xts-plain64", "encryption_key_size": "128"},
            ["encryption_key_size must be 256 or 512"],
        ),
    ],
)
def test_refused_parameters_are_named(parameters: dict[str, str], words: list[str]) -> None:
    with pytest.raises(RpcError) as caught:
        parse_volume_parameters(parameters, {})

    assert caught.value.code.name == "INVALID_ARGUMENT"
    for word in words:
        assert word in caught.value.message


def test_what_cannot_change_is_no_mutable_parameter() -> None:
    assert parse_mutable_parameters({"qos.a": "1", "xtra_b": "2"}) == ({"b": "2"}, {"a": "1"})
    with pytest.raises(RpcError, match="mutable_parameters: 'backend' is unknown"):
        parse_mutable_parameters({"backend": "fast"})


def test_what_sidecars_add_is_left_out() -> None:
    given = {"csi.storage.k8s.io/pvc/name": "data", "backend": "fast"}

    assert without_sidecar_keys(given) == {"backend": "fast"}
    assert parse_volume_parameters(given, {}) == VolumeParameters(backend="fast")
    check_snapshot_parameters({"csi.storage.k8s.io/volumesnapshot/name": "daily"})
    with pytest.raises(RpcError, match="'colour' is unknown"):
        check_snapshot_parameters({"colour": "red"})


def test_what_kubernetes_adds_to_a_volume_context_is_left_out() -> None:
    given = {"storage.kubernetes.io/csiProvisionerIdentity": "1", "encryption": "luks"}

    assert own_context(given) == {"encryption": "luks"}
