"""Removal of secrets from text: values that are known to be secret, and shapes that give a secret away, since drivers
log whole dictionaries, command lines and URLs as text.

What is searched is cut before, and RE2 searches in a time that grows with the text alone, whatever is in it: a text
from outside must not stop the process. A cut never shows the rest of a secret: what is searched begins and ends further
out than what is shown, and a shape that is open at an end is masked up to there.
"""

import re2

from csi_plugin.known_secrets import MASK, SECRET_WORDS, mask_known

FIELD_LIMIT = 256
"""Bytes of a field or a value of a request that are shown."""
MESSAGE_LIMIT = 1024
"""Bytes of an error's message; percent-encoded, it fits into gRPC's 8 KiB of metadata whatever it is."""
TEXT_LIMIT = 32 * 1024
"""Bytes of a log's message or traceback."""
_MARGIN = 4096
"""Characters that are searched beyond a cut."""

_KEY = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_QUOTED = r"""(?:\\+"[^"]*(?:"|\z)|"(?:[^"\\]|\\.|\\\z)*(?:"|\z)|\\+'[^']*(?:'|\z)|'(?:[^'\\]|\\.|\\\z)*(?:'|\z))"""
_WORDS = f"(?i:{SECRET_WORDS})"
_QUOTE = r"\\*['\"]"
_IS = r"\s*(?:=>|->|:=|[:=])\s*"
_SHAPES: tuple[tuple[str, str], ...] = (
    # private keys; one without an end goes on to the end of the text
    (rf"()-----BEGIN {_KEY}(?:.*?-----END {_KEY}|.*)", ""),
    # Authorization: Digest username="user", response="x", Cookie: a=x; b=y
    (r"(\b(?i:authorization|cookie):\s*)[^\s'\"][^\r\n]*", ""),
    # Basic x, Bearer x, elsewhere; before what would take the first word for the secret
    (r"\b((?:Basic|Bearer)\s+)[A-Za-z0-9+/=._~-]{8,}", ""),
    # password: |, and what is indented below it
    (rf"({_WORDS}(?:{_QUOTE})?\s*:\s*[|>][-+0-9]*[ \t]*\n)(?:[ \t]+[^\n]*(?:\n|\z))+", ""),
    # passwords: ['x', 'y'], 'password': {'value': 'x'}
    (rf"({_WORDS}(?:{_QUOTE})?{_IS})(?:\[[^\]]*(?:\]|\z)|\{{[^}}]*(?:\}}|\z))", ""),
    # {'auth_password': 'x'}, "password": "x", password=x, password: x
    (rf"({_WORDS}(?:{_QUOTE})?{_IS}[ub]?){_QUOTED}", ""),
    (rf"({_WORDS}{_IS}(?:!\S*\s+)?)[^\s,;&}})\]'\"\\=>:-][^\s,;&}})\]]*", ""),
    (rf"({_WORDS}\s*[:=]\s*)[-:=>][^\s,;&}})\]]+", ""),
    # "password": x; but not Invalid URL 'http://array/token': x, where a path ends in the word
    (rf"((?:\A|[^/]){_WORDS}{_QUOTE}\s*[:=]\s*)[^\s,;&}})\]'\"\\][^\s,;&}})\]]*", ""),
    # password%3Dx, %22password%22%3A%22x
    (rf"({_WORDS}(?:%22|%27)?%3[ADad](?:%20)*)[^\s&'\"]+", ""),
    # {"name": "password", "value": "x"}, <option name="password" value="x"/>; and ('password', 'x')
    (rf"({_WORDS}{_QUOTE}[,\s]\s*(?:{_QUOTE})?(?i:value)(?:{_QUOTE})?\s*[:=]\s*[ub]?){_QUOTED}", ""),
    (rf"({_WORDS}['\"],\s*[ub]?){_QUOTED}", ""),
    # the password is 'x'
    (rf"(\b(?i:password|passphrase|passwd|secret|token)\s+(?:(?i:is|was)\s+)?){_QUOTED}", ""),
    # HTTPBasicAuth('user', 'x'), login("user", "x"), auth=('user', 'x')
    (rf"((?i:auth|login)\s*=?\s*\(\s*[ub]?{_QUOTED},\s*[ub]?){_QUOTED}", ""),
    # --password x, --os-password=x
    (rf"(--?[\w-]*{_WORDS}(?:\s+|=)){_QUOTED}", ""),
    (rf"(--?[\w-]*{_WORDS}(?:\s+|=))[^\s'\"\\]\S*", ""),
    # --key x of Ceph's programs, sshpass -p x, curl --user user:x
    (r"(\s--key(?:\s+|=))[^\s'\"]+", ""),
    (r"(\bsshpass['\",\s]+-p['\",\s]*)[^\s'\",]+", ""),
    (r"((?:-u|--user|--proxy-user)(?:['\",\s]+|=)[^\s:'\",]+:)[^\s'\",]+", ""),
    # <adminPass>x</adminPass>
    (r"(<[\w:]*(?i:pass(?:word|wd|phrase)?|secret|token)(?:\s[^<>]*)?>)[^<]+", ""),
    # iscsiadm ... -n node.session.auth.password -v x
    (r"((?i:auth\.password(?:_in)?)['\",\s]+(?:-v|--value)(?:['\",\s]+|=))[^\s'\",]+", ""),
    # CHAP user password, as drivers keep it in provider_auth; IncomingUser user password, as targets are told it
    (r"\b((?:CHAP|(?i:(?:incoming|outgoing)user)=?)\s+[^\s,;()'\"]+\s+)[^\s'\",}]+", ""),
    # cinder-rtstool create device target user password; cinder-rtstool add-initiator target user password initiator
    (
        r"(cinder-rtstool['\",\s]+(?:create['\",\s]+[^\s'\",]+|add-initiator)(?:['\",\s]+[^\s'\",]+){2}['\",\s]+)"
        r"[^\s'\",]+",
        "",
    ),
    # scheme://user:password@host, where the password is no port with a path behind it
    (r"(://[^\s:/@'\"]*:)(?:[0-9]+(?:[^\s'\"/0-9][^\s'\"]*)?|[^\s'\"0-9][^\s'\"]*)@", "@"),
    # those with a shape of their own: cephx keys, NVMe's secrets and keys, JSON web tokens
    (r"\b()AQ[A-Za-z0-9+/]{36,}={0,2}", ""),
    (r"\b()(?:DHHC-1|NVMeTLSkey-1):[0-9]{2}:[A-Za-z0-9+/]+={0,2}:?", ""),
    (r"\b()eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?", ""),
)
_OPEN_AT_THE_END = (
    # scheme://user:passw
    r"(://[^\s:/@'\"]*:)[^\s'\"]*\z",
    # A cephx key, or a token, that has only begun.
    r"\b()(?:AQ|DHHC-1:|NVMeTLSkey-1:|eyJ|Basic\s|Bearer\s)[A-Za-z0-9+/=._~:-]*\z",
)
_OPEN_AT_THE_BEGINNING = (rf"\A().*?-----END {_KEY}",)


def _compiled(pattern: str) -> re2._Regexp:
    """A pattern over bytes: a text's length in characters is of no interest, and not every text is valid UTF-8."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    options.log_errors = False
    return re2.compile(pattern.encode(), options)


PATTERNS = [(_compiled(pattern), rb"\1" + MASK.encode() + after.encode()) for pattern, after in _SHAPES]
_END_PATTERNS = [(_compiled(pattern), rb"\1" + MASK.encode()) for pattern in _OPEN_AT_THE_END]
_BEGINNING_PATTERNS = [(_compiled(pattern), rb"\1" + MASK.encode()) for pattern in _OPEN_AT_THE_BEGINNING]
_ANY = _compiled("|".join(pattern for pattern, _ in _SHAPES))


def redact_text(text: str, *, limit: int = TEXT_LIMIT) -> str:
    """At most ``limit`` bytes of a text, and a note of how many are left out of its middle; its secrets are masked.

    Bytes that are no text (surrogates) are shown escaped.
    """
    if len(text) <= limit + 2 * _MARGIN:
        return _cut(_masked(text), limit)
    head, tail = _shares(limit)
    beginning = _masked(text[: head + _MARGIN], is_cut_after=True)[:head]
    end = _masked(text[-tail - _MARGIN :], is_cut_before=True)[-tail:] if tail else b""
    # Bytes of the whole are not counted: it is megabytes, maybe.
    return _joined(beginning, end, f"{len(text) - head - tail} characters")


def _cut(text: bytes, limit: int) -> str:
    if len(text) <= limit:
        return text.decode(errors="ignore")
    head, tail = _shares(limit)
    return _joined(text[:head], text[-tail:] if tail else b"", f"{len(text) - head - tail} bytes")


def _shares(limit: int) -> tuple[int, int]:
    """How many bytes are shown of the beginning and of the end: a traceback says most at its end."""
    if limit <= FIELD_LIMIT:
        return limit, 0
    return limit // 4, limit - limit // 4


def _joined(beginning: bytes, end: bytes, left_out: str) -> str:
    return f"{beginning.decode(errors='ignore')}[... {left_out} left out ...]{end.decode(errors='ignore')}"


def _masked(text: str, *, is_cut_before: bool = False, is_cut_after: bool = False) -> bytes:
    found = mask_known(text).encode(errors="backslashreplace")
    if is_cut_before:
        found = _substitute(found, _BEGINNING_PATTERNS)
    if _ANY.search(found):
        found = _substitute(found, PATTERNS)
    return _substitute(found, _END_PATTERNS) if is_cut_after else found


def _substitute(text: bytes, patterns: list[tuple[re2._Regexp, bytes]]) -> bytes:
    for pattern, replacement in patterns:
        text = pattern.sub(replacement, text)
    return text
