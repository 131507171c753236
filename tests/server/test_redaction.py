"""Secrets stay out of logs, whatever they are wrapped in; words that only sound like secrets stay in."""

import base64
import html
import json
import urllib.parse
from typing import Any

import pytest

from csi_plugin import known_secrets, secrets_in_text
from csi_plugin.known_secrets import keep_passing_secret, keep_secret
from csi_plugin.protocol import csi_pb2
from csi_plugin.secrets_in_text import FIELD_LIMIT, TEXT_LIMIT, redact_text
from csi_plugin.server.redaction import keep_secrets_of, redact, redact_message

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
    "-----BEGIN PRIVATE KEY-----\nhunter2\nand no end",
    "password='hunter2 with blanks and no end",
    'password="with \\" a quote and hunter2"',
    r"{\"password\": \"hunter2 in JSON in JSON\"}",
    "['cli', '--password', 'hunter2', 'volume']",
    "mysql+pymysql://cinder:a/hunter2@db.example/cinder",
    "mysql+pymysql://cinder:1x/hunter2@2@db.example/cinder",
    "<adminPass>hunter2</adminPass>",
    '<password type="text">hunter2</password>',
    "X-Api-Key: hunter2",
    "pwd=hunter2",
    "password==hunter2",
    'password => "hunter2"',
    "password := hunter2",
    "'accessKey': 'hunter2', 'session-key': 'hunter2'",
    '{"name": "password", "value": "hunter2"}',
    '<option name="password" value="hunter2"/>',
    "[('san_password', 'hunter2')]",
    "'passwords': ['hunter2', 'hunter2']",
    "'san_password': {'value': 'hunter2'}",
    "password: |\n  hunter2\n  hunter2\nname: x",
    "password: !vault hunter2",
    "the password is 'hunter2'",
    "HTTPBasicAuth('user', 'hunter2')",
    'auth=("user", "hunter2")',
    "iscsiadm --op update --name node.session.auth.password --value=hunter2",
    "curl --user user:hunter2 https://array",
    "['curl', '-u', 'user:hunter2']",
    "sshpass -p hunter2 ssh array",
    "rbd map volume --key hunter2",
    "https://array/login?x=%22password%22%3A%22hunter2%22",
    'Authorization: Digest username="user", response="hunter2"',
    "Authorization: Token hunter2\nAccept: json",
    "Set-Cookie: JSESSIONID=hunter2; Path=/",
    "nvme connect -S DHHC-1:00:hunter2hunter2hunter2hunter2hunter2hunter2hu==:",
    "key NVMeTLSkey-1:01:hunter2hunter2hunter2hunter2hunter2hunter2hu==:",
    "sent eyJhbGciOiJSUzI1NiJ9.eyJodW50ZXIyIjoxfQ.hunter2-hunter2",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nhunter2\n-----END PGP PRIVATE KEY BLOCK-----",
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
        "the key of the password must be named; authorization is by certificate",
        "no value of password, secret or token",
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
    pair = {"name": "san_password", "value": "hunter2"}
    assert redact([pair, {"name": "san_ip", "value": "x"}]) == [
        {**pair, "value": "***"},
        {"name": "san_ip", "value": "x"},
    ]
    assert list(known_secrets.secrets_in({"options": [pair]})) == ["hunter2"]
    assert redact({"secret_options": ["odd_key"], "secretRef": {"name": "x"}})["secret_options"] == ["odd_key"]


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


MIB = 1024**2
SHAPES = (
    "a", "-", " ", "\n", "é", "\udc80", "password", "password=", "password='", 'password="\\', "--password ", "secret",
    "CHAP ", "CHAP a ", "://", "://a:", "AQ", "Bearer ", "\\'\"", "auth.password -v ", "cinder-rtstool create a b ",
    "-----BEGIN PRIVATE KEY-----", "<password>", "incominguser=", "password: |\n ", "passwords: [", "auth('a', '",
    "--user a:", "eyJ", "DHHC-1:00:", "authorization: ", "'password', 'value': ",
)  # fmt: skip
"""What each pattern begins with, repeated: where a search that goes back would go back most."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each text that a pattern was searched for in."""
    searched: list[int] = []

    class Counted:
        def __init__(self, pattern: Any) -> None:
            self._pattern = pattern

        def sub(self, replacement: bytes, text: bytes) -> Any:
            searched.append(len(text))
            return self._pattern.sub(replacement, text)

        def search(self, text: bytes) -> Any:
            searched.append(len(text))
            return self._pattern.search(text)

    for name in ("PATTERNS", "_END_PATTERNS", "_BEGINNING_PATTERNS"):
        patterns = getattr(secrets_in_text, name)
        monkeypatch.setattr(secrets_in_text, name, [(Counted(pattern), after) for pattern, after in patterns])
    monkeypatch.setattr(secrets_in_text, "_ANY", Counted(secrets_in_text._ANY))
    return searched


@pytest.mark.parametrize("shape", SHAPES)
def test_megabytes_are_cut_before_they_are_searched(shape: str, steps: list[int]) -> None:
    """RE2 takes a step for each byte and pattern, whatever the text is; so bytes are what is counted."""
    text = shape * (4 * MIB // len(shape))
    shown = redact_text(text)
    assert len(shown.encode()) <= TEXT_LIMIT + 100
    assert max(steps) <= 6 * (TEXT_LIMIT + 10_000), "the escapes of a byte are six"
    assert len(steps) <= 2 * (len(secrets_in_text.PATTERNS) + 3)
    steps.clear()
    assert len(redact_text(text, limit=FIELD_LIMIT).encode()) <= FIELD_LIMIT + 100
    assert sum(steps) <= 30 * 6 * 10_000


@pytest.mark.parametrize(
    "request_",
    [
        csi_pb2.DeleteVolumeRequest(volume_id="passw" * 800_000),
        csi_pb2.CreateVolumeRequest(parameters={f"password-{number}" * 20: "x" * 100 for number in range(20_000)}),
        csi_pb2.CreateVolumeRequest(secrets={f"key-{number}": "x" * 100 for number in range(20_000)}),
        csi_pb2.CreateVolumeRequest(volume_capabilities=[csi_pb2.VolumeCapability()] * 500_000),
        csi_pb2.NodeStageVolumeRequest(
            volume_capability=csi_pb2.VolumeCapability(
                mount=csi_pb2.VolumeCapability.MountVolume(mount_flags=["password=" * 30] * 10_000)
            )
        ),
    ],
    ids=["field", "map", "secrets", "messages", "texts"],
)
def test_a_request_of_megabytes_is_a_short_line(request_: Any, steps: list[int]) -> None:
    assert len(json.dumps(redact_message(request_))) < 150_000
    assert sum(steps) < 50 * MIB


def test_a_cut_is_in_the_middle_and_says_how_much_is_missing() -> None:
    text = "begins " + "x" * MIB + " ends"
    shown = redact_text(text)
    assert shown.startswith("begins x")
    assert shown.endswith("x ends")
    assert f"[... {len(text) - TEXT_LIMIT} characters left out ...]" in shown
    assert redact_text("x" * 300, limit=FIELD_LIMIT) == "x" * 256 + "[... 44 bytes left out ...]"


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN PRIVATE KEY-----\n" + "hunter2\n" * 3000 + "-----END PRIVATE KEY-----",
        "password='" + "hunter2 " * 400 + "'",
        "password=" + "hunter2" * 400,
        "mysql://user:" + "hunter2" * 200 + "@db",
        "Bearer " + "hunter2" * 400,
    ],
    ids=["key", "quoted", "bare", "url", "token"],
)
@pytest.mark.parametrize("limit", [FIELD_LIMIT, 1024, TEXT_LIMIT])
def test_a_cut_shows_no_part_of_a_secret(secret: str, limit: int) -> None:
    for before in (0, limit // 4 - 20, limit // 4 - len(secret) // 2, limit // 4 + 4000, limit - 30, 2 * limit):
        for after in (0, 3 * limit // 4 - 30, 3 * limit // 4 + 20, 3 * limit // 4 + 4000, 9 * limit):
            text = "x" * max(before, 0) + " " + secret + " " + "y" * after
            assert "hunter2" not in redact_text(text, limit=limit), (before, after)


def test_known_secrets_are_masked_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_kept", "_passing", "_earlier"):
        monkeypatch.setattr(known_secrets, name, known_secrets._Values())
    looked_up: list[int] = []
    length_at = known_secrets._Values.length_at

    def counted(values: known_secrets._Values, text: str, place: int) -> int:
        looked_up.append(place)
        return length_at(values, text, place)

    keep_secret(f"planted-{number:06d}" for number in range(10_000))
    keep_secret(["Pa$w/o rd'1\"", "first line of a long one\nsecond line of a long one"])
    monkeypatch.setattr(known_secrets._Values, "length_at", counted)
    text = "nothing here; " * 2000
    assert redact_text(text) == text
    assert not looked_up, "no place begins as one of them"
    assert redact_text("a planted-000007b planted-00") == "a ***b planted-00"
    for form in ("Pa$w/o rd'1\"", "Pa%24w%2Fo%20rd%271%22", "Pa$w/o rd\\'1\"", "Pa$w/o rd'1\\\""):
        assert "Pa" not in redact_text(f"before {form} after"), form
    assert "line" not in redact_text("E: first line of a long one / second line of a long one")
    looked_up.clear()
    redact_text("planted-00000x" * 4000)
    assert len(looked_up) < 3 * 50_000


def test_the_beginning_of_a_long_known_secret_is_masked() -> None:
    key = "".join(chr(ord("a") + number % 23) for number in range(900))
    keep_secret([key])
    assert redact_text(f"begins {key[:600]}") == "begins ***"
    assert redact_text(f"{key[:600]}!{key}") == "***!***"


def test_secrets_that_pass_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_kept", "_passing", "_earlier"):
        monkeypatch.setattr(known_secrets, name, known_secrets._Values())
    keep_secret(["configured-secret"])
    for number in range(50_000):
        keep_passing_secret([f"passing{number:06d}"])
    assert redact_text("configured-secret passing049999 passing000001") == "*** *** passing000001"
    assert known_secrets._passing.count + known_secrets._earlier.count <= 11_000


SECRET = 'Top/Se"cr<et 9+ü'


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        *(base64.b64encode(f"{user}:{SECRET}/x".encode()).decode() for user in ("admin", "admin1", "admin12")),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps(SECRET).replace("/", "\\/"),
        json.dumps(json.dumps({"x": SECRET})),
        urllib.parse.quote(SECRET, safe=""),
        urllib.parse.quote(urllib.parse.quote(SECRET, safe="")),
        urllib.parse.quote_plus(SECRET),
        "Top%2fSe%22cr%3cet%209%2b%c3%bc",
        html.escape(SECRET),
        repr([SECRET]),
        repr(SECRET.encode()),
    ],
)
def test_a_known_secret_is_masked_in_every_form(text: str) -> None:
    keep_secret([SECRET])
    shown = redact_text(f"the array says: {text}; and no more")
    assert shown.startswith("the array says: ")
    assert shown.endswith("; and no more")
    assert "***" in shown
    for part in ("Top", "cr", "et 9", SECRET.encode().hex()[2:10], base64.b64encode(SECRET.encode()).decode()[4:12]):
        assert part not in shown


def test_requests_keep_no_megabytes_of_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a request may have are known, however many, and those of one that is refused need not be."""
    for name in ("_kept", "_passing", "_earlier"):
        monkeypatch.setattr(known_secrets, name, known_secrets._Values())
    many = {f"{number:03d}": f"many{number:03d}" for number in range(400)}
    keep_secrets_of(csi_pb2.CreateVolumeRequest(secrets=many))
    assert "many" not in redact_text(" ".join(many.values()))
    known = known_secrets._passing.count
    keep_secrets_of(csi_pb2.CreateVolumeRequest(secrets={"long": "x" * 30_000}))
    assert known_secrets._passing.count == known
