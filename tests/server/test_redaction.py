"""Secrets stay out of logs, whatever they are wrapped in; words that only sound like secrets stay in."""

import pytest

from csi_plugin.protocol import csi_pb2
from csi_plugin.server.redaction import redact, redact_message, redact_text

SECRETS = (
    "{'auth_method': 'CHAP', 'auth_username': 'user', 'auth_password': 'hunter2'}",
    '{"auth_password": "hunter2", "target_lun": 1}',
    "{u'password': u'hunter2'}",
    "san_password=hunter2, san_ip=192.0.2.1",
    "rbd_keyring: hunter2",
    "iscsiadm -m node -T iqn -p 192.0.2.1 --op update -n node.session.auth.password -v hunter2",
    "['iscsiadm', '-n', 'node.session.auth.password_in', '-v', 'hunter2']",
    "cli --password hunter2 volume list",
    "cli --os-password='hunter2 with blanks' list",
    "provider_auth CHAP user hunter2",
    "incominguser user hunter2\n",
    "scstadmin -set_tgt_attr iqn -driver iscsi -attributes IncomingUser= user hunter2",
    "Command: cinder-rtstool create /dev/volumes/volume-1 iqn.2010-10.org.openstack:1 user hunter2 False -p3260",
    "['cinder-rtstool', 'create', '/dev/volumes/volume-1', 'iqn.2010-10.org.openstack:1', 'user', 'hunter2', 'False']",
    "cinder-rtstool add-initiator iqn.2010-10.org.openstack:1 user hunter2 iqn.1993-08.org.debian:01:1",
    "mysql+pymysql://cinder:hunter2@db.example/cinder",
    "Authorization: Basic aHVudGVyMjpodW50ZXIy",
    "X-Auth-Token: hunter2",
    "'nas_secret_key': 'hunter2'",
    "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
)


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_in_text(text: str) -> None:
    redacted = redact_text(text)
    assert "hunter2" not in redacted
    assert "aHVudGVyMjpodW50ZXIy" not in redacted
    assert "***" in redacted


@pytest.mark.parametrize(
    "text",
    [
        "secrets of the storage (CHAP passwords, keyrings) are stored in clear: no sealing_keys were given",
        "volume 5eda5475 is published to node-1",
        "backend chap is ready after 17.9 s",
        "cinder-rtstool delete-initiator iqn.2010-10.org.openstack:1 iqn.1993-08.org.debian:01:1",
        "starting_token must be one that ListVolumes answered",
        "the passphrase is missing",
        "unix:///run/csi.sock",
        "2026-01-01T10:00:00Z keyring file of the Ceph user",
    ],
)
def test_words_about_secrets(text: str) -> None:
    assert redact_text(text) == text


def test_structures() -> None:
    data = {"auth_password": "x", "use_chap_auth": True, "target_lun": 1}
    assert redact({"data": [data], "starting_token": "abc", "empty": None}) == {
        "data": [{"auth_password": "***", "use_chap_auth": True, "target_lun": 1}],
        "starting_token": "abc",
        "empty": None,
    }


def test_messages() -> None:
    request = csi_pb2.NodeStageVolumeRequest(
        volume_id="volume",
        secrets={"passphrase": "hunter2"},
        publish_context={"connection": "sealed"},
        volume_context={"mkfs_options": "-m 1"},
    )
    redacted = redact_message(request)
    assert redacted["secrets"] == {"passphrase": "***"}
    assert redacted["publish_context"] == {"connection": "***"}
    assert redacted["volume_context"] == {"mkfs_options": "-m 1"}
    assert redacted["volume_id"] == "volume"


def test_every_secret_field_of_the_specification_is_masked() -> None:
    """By the mark in csi.proto, in every message that has one."""
    marked = 0
    for name, descriptor in csi_pb2.DESCRIPTOR.message_types_by_name.items():
        for field in descriptor.fields:
            if field.GetOptions().Extensions[csi_pb2.csi_secret]:
                message = getattr(csi_pb2, name)(**{field.name: {"key": "hunter2"}})
                assert "hunter2" not in str(redact_message(message)), name
                marked += 1
    assert marked > 15
