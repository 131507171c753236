"""Values that are known to be secret: whoever sees one first tells it here, and texts are searched for all of them.

A search takes one pass over the text, however many values are known.
"""

import base64
import bisect
import html
import json
import re
import threading
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

MASK = "***"

LEAST_LENGTH = 6
"""Shorter values would mask parts of words all over a log."""
_TELLING_LENGTH = 48
"""A longer value is known by its beginning, so that one that was cut is known too."""
_LONGEST = 16 * 1024
"""Characters of a value that are compared."""
_LEAST_LINE_LENGTH = 20
"""Lines of a key are searched for one by one: a text may quote them apart."""
_PASSING_LIMIT = 2_000
"""Values of requests and connections that are kept, and as many that were seen before those."""
_ESCAPES_OF_URLS = re.compile("%[0-9A-F]{2}")


class _Values:
    """Values by what they begin with."""

    def __init__(self) -> None:
        self._by_start: dict[str, dict[int, dict[str, list[str]]]] = {}
        """First characters -> length of the telling part -> the telling part -> values with it, sorted."""
        self.count = 0

    def add_all(self, forms: Iterable[str]) -> None:
        """The forms of one value."""
        self.count += max(map(self._add, forms), default=False)

    def _add(self, value: str) -> bool:
        """Whether it was not there."""
        told = value[:_TELLING_LENGTH]
        found = self._by_start.setdefault(value[:LEAST_LENGTH], {}).setdefault(len(told), {}).setdefault(told, [])
        place = bisect.bisect_left(found, value)
        if place < len(found) and found[place] == value:
            return False
        found.insert(place, value)
        return True

    def starts_with(self, start: str) -> bool:
        return start in self._by_start

    def length_at(self, text: str, place: int) -> int:
        """Length of the longest value that stands at a place of the text; 0 for none."""
        for length, values in sorted(self._by_start.get(text[place : place + LEAST_LENGTH], {}).items(), reverse=True):
            found = values.get(text[place : place + length])
            if found is not None:
                return _length_in_common(text, place, found) if length == _TELLING_LENGTH else length
        return 0


def _length_in_common(text: str, place: int, values: list[str]) -> int:
    """How far the text goes on as one of the sorted values does, whether to its end or not."""
    rest = text[place : place + _LONGEST]
    after = bisect.bisect_right(values, rest)
    # Of sorted values, those beside the text have most in common with it.
    return max(_common_length(rest, value) for value in values[max(after - 1, 0) : after + 1])


def _common_length(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


_lock = threading.Lock()
_kept, _passing, _earlier = _Values(), _Values(), _Values()


def keep_secret(values: Iterable[str]) -> None:
    """Mask these values in everything from now on, unless they are too short to be told from words."""
    with _lock:
        for value in values:
            _kept.add_all(_forms(value))


def keep_passing_secret(values: Iterable[str]) -> None:
    """As keep_secret(), for values that come with requests and connections: the latest thousands are masked."""
    global _passing, _earlier
    with _lock:
        for value in values:
            if _kept.length_at(value, 0) != len(value):
                _passing.add_all(_forms(value))
        if _passing.count > _PASSING_LIMIT:
            _passing, _earlier = _Values(), _passing


def mask_known(text: str) -> str:
    """Text with the known values masked."""
    sets = [values for values in (_kept, _passing, _earlier) if values.count]
    if not sets:
        return text
    pieces, done = [], 0
    for place in range(len(text) - LEAST_LENGTH + 1):
        start = text[place : place + LEAST_LENGTH]
        if place < done or not any(values.starts_with(start) for values in sets):
            continue
        if length := max(values.length_at(text, place) for values in sets):
            pieces += [text[done:place], MASK]
            done = place + length
    return "".join([*pieces, text[done:]])


def _forms(value: str) -> set[str]:
    """A value as texts have it: as it is, line by line, as programs quote it, and as protocols encode it."""
    values = [value, value.strip()]
    values += [line for line in map(str.strip, value.splitlines()) if len(line) >= _LEAST_LINE_LENGTH]
    found = set()
    for one in values:
        found |= _quoted(one) | _in_urls(one) | _encoded(one.encode(errors="surrogatepass"))
    return {form for form in found if len(form) >= LEAST_LENGTH and form.lower() not in _PLAIN_NAMES}


def _quoted(value: str) -> set[str]:
    in_python = value.encode("unicode_escape").decode()  # within a longer text, either quote may need a backslash
    in_json, in_unicode = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    found = {value, in_python, in_python.replace("'", "\\'"), repr(value)[1:-1], in_json, in_unicode}
    found |= {one.replace("/", "\\/") for one in (in_json, in_unicode)}  # PHP's JSON, and Java's
    found |= {json.dumps(one)[1:-1] for one in (in_json, in_unicode)}  # JSON in JSON
    found.add(repr(value.encode(errors="surrogatepass"))[2:-1])
    return found | {escape(value), html.escape(value), value.replace("'", "'\"'\"'")}


def _in_urls(value: str) -> set[str]:
    found = {quote(value, safe="", errors="replace"), quote(value, errors="replace")}
    found.add(quote_plus(value, errors="replace"))
    found |= {_ESCAPES_OF_URLS.sub(lambda match: match[0].lower(), one) for one in found}
    return found | {quote(one) for one in found}  # a URL in a URL


def _encoded(value: bytes) -> set[str]:
    """In hexadecimal digits, and in base64: also within what is encoded, as the password of ``Basic`` credentials.

    Three bytes are four characters, so there it begins in one of three ways, and the characters at its ends have bits
    of what is beside it.
    """
    found = {value.hex(), value.hex().upper(), base64.b64encode(value).decode()}
    for before, mixed in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(bytes(before) + value).decode()
        found.add(text[mixed:].rstrip("=")[: -1 if (before + len(value)) % 3 else None])
    return found | {one.translate(_OF_URLS) for one in found}


_OF_URLS = str.maketrans("+/", "-_")


def keep_secrets_of_driver(data: object) -> None:
    """Mask what is secret in connection information, and in ``provider_auth``, which is ``CHAP user password``."""
    if not data:
        return
    keep_passing_secret(secrets_in(data))
    if isinstance(data, Mapping) and isinstance(auth := data.get("provider_auth"), str):
        keep_passing_secret([auth, auth.rpartition(" ")[2]])


# Names whose values are secret.

SECRET_WORDS = (
    r"pass(?:words?|wd|phrases?|code)?|pwd|secret\w*|token|keyring|credential\w*|auth_password|chap\w*|"
    r"(?:api|access|private|shared|session|encryption)[_-]?key|psk|jsessionid|provider_auth|sealing_?keys?|"
    r"authorization|cookie"
)
# As values they are not looked for: a masked name would no longer tell that what follows it is secret.
_PLAIN_NAMES = frozenset(
    (
        *("password", "passwd", "passphrase", "secret", "secrets", "keyring", "credential", "credentials"),
        *("authorization", "cookie", "auth_password", "provider_auth", "api_key", "apikey", "private_key"),
        *("privatekey", "encryption_key", "sealing_key", "sealing_keys", "passwords", "access_key", "session_key"),
    )
)
_SECRET_NAME = re.compile(rf"(?:{SECRET_WORDS})(?:$|[._-])", re.IGNORECASE)
# Names that sound secret and are not: what they hold helps to understand a log.
_HARMLESS = re.compile(
    r"(?:starting|next|page)_?token$|^secret_?(?:options|ref)$|_(?:type|method|id|file|path|file_path)$|^encryption_key_id$",
    re.I,
)
_NAME_LENGTH = 256
_VALUE = "value"
# Of what is masked under its name, values that may be words, and are not looked for elsewhere.
_MASKED_THERE_ALONE = re.compile(r"(?:user|username|name|login|uuid|group|level|mode|enabled|auth)$", re.IGNORECASE)


def is_secret_name(name: object) -> bool:
    """Whether values under such a name are secret."""
    if not isinstance(name, str):
        return False
    name = name[-_NAME_LENGTH:]
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS.search(name)


def names_a_secret(data: Mapping[str, object]) -> bool:
    """Whether a mapping has a secret name and, under ``value``, what that has: {"name": "password", "value": "x"}."""
    return _VALUE in data and any(is_secret_name(data.get(name)) for name in ("name", "key", "option"))


def secrets_in(data: object) -> Iterable[str]:
    """The texts under secret names in data of JSON's types, at any depth."""
    if isinstance(data, Mapping):
        named = names_a_secret(data)
        for name, value in data.items():
            if named and name == _VALUE:
                yield from texts_in(value)
            elif is_secret_name(name) and not _MASKED_THERE_ALONE.search(str(name)[-_NAME_LENGTH:]):
                # Some options name the file with a key.
                yield from (text for text in texts_in(value) if not text.startswith("/"))
            else:
                yield from secrets_in(value)
    elif isinstance(data, list | tuple | set):
        for item in data:
            yield from secrets_in(item)


def texts_in(data: object) -> Iterable[str]:
    """All texts in data of JSON's types, and numbers as text."""
    if isinstance(data, Mapping):
        for value in data.values():
            yield from texts_in(value)
    elif isinstance(data, list | tuple | set):
        for item in data:
            yield from texts_in(item)
    elif isinstance(data, str | int | float) and not isinstance(data, bool):
        yield str(data)
