"""Removal of secrets from texts: by the shape of tokens and keys, and by known values.

Removal by shape is for texts of any origin, in which a user may have pasted a token by
mistake. Removal by value is for texts from a server. A server may repeat a secret that
has no special shape, unchanged or in another encoding.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

HIDDEN = "[hidden]"

MIN_LENGTH = 8
"""Least length of a secret. A shorter value may be a word that messages need."""

_ESCAPED = r"(?<=%[0-9A-Fa-f]{2})"
_START = rf"(?:(?<![A-Za-z0-9])|{_ESCAPED})"
"""A start of a word: no letter and no digit stands before it.

Unlike `\\b`, this allows an underscore or a URL escape such as `%20` before the word.
"""

_SHAPES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("-----BEGIN",), r"-----BEGIN.*?(?:-----END[^-]*-----|\Z)"),
    # Google's access tokens, its API keys
    # (https://cloud.google.com/docs/authentication/api-keys), refresh tokens,
    # authorization codes of a login, and client secrets
    # (https://developers.google.com/identity/protocols/oauth2), all 2026-11.
    (("ya29.", "ya29%2"), r"ya29(?:\.|%2[Ee])[\w.~+/=%-]*"),
    (("AIza",), r"AIza[\w-]{16,}"),
    (("AQ.",), rf"{_START}AQ\.[\w-]{{16,}}"),
    (("1//", "1%2"), rf"(?:(?<!\w)|{_ESCAPED})1(?://|%2[Ff]%2[Ff])[\w-]{{8,}}"),
    (("4/", "4%2"), rf"(?:(?<!\w)|{_ESCAPED})4(?:/|%2[Ff])0A[\w-]{{16,}}"),
    (("GOCSPX-",), r"GOCSPX-[\w-]*"),
    # JSON Web Tokens, and the content of a PEM file.
    (("eyJ",), rf"{_START}eyJ[\w-]{{8,}}[\w.+/=%-]*"),
    (("MII",), rf"{_START}MII[A-Za-z0-9+/]{{32,}}=*"),
    # A credentials file: as JSON, as JSON within a string, or in base64. The base64 may
    # be broken into lines.
    (
        ("client_secret", "refresh_token", "private_key"),
        (
            r"(?:client_secret|refresh_token|private_key)\\*"
            r"[\"']\s*:\s*\\*[\"'](?:[^\"'\\{}]|\\+[^\"'])+"
        ),
    ),
    (
        ("ewog", "ew0K"),
        r"\bew(?:og|0K)[\w+/-]{24,}=*(?:(?:\\[nr]|\s)+(?:[\w+/-]{24,}=*|[\w+/-]*=+))*",
    ),
    # Keys of OpenAI and of the providers that copied their shape, tokens of GitHub and
    # GitLab, and tokens of Hugging Face.
    (("sk-",), rf"{_START}sk-(?=[\w-]*[0-9A-Z])[\w-]{{16,}}"),
    (("gho_", "ghp_", "ghs_", "ghu_", "ghr_"), r"gh[opsur]_[A-Za-z0-9]{30,}"),
    (("hf_",), rf"{_START}hf_[A-Za-z0-9]{{30,}}"),
    (("github_pat_", "glpat-"), r"(?:github_pat_|glpat-)[\w-]{20,}"),
)
"""Shapes of tokens and keys: pairs of start texts and a pattern.

Each match of the pattern contains one of the start texts. Most texts contain no start
text, and then no pattern has to be compiled.
"""
_LOOKS = "|".join(pattern for _, pattern in _SHAPES)
_MARKS = tuple(mark for marks, _ in _SHAPES for mark in marks)
_BEARER = r"(?<=Bearer )(?=\S{16})[^\s'\"]+"
_PASSWORD = r"(?<=//)[^/\s]+(?=@)"  # noqa: S105 -- a pattern
# Line breaks may be as `repr` writes them.
_REST = r"(?:(?:\\+[nrt]?|\s)+(?=[\w-]*[0-9])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w.~+/=%-]{12,})*"
"""The rest of a token that was pasted in several lines.

Each further word has a digit, a capital letter and a small letter, as tokens do.
"""
_SECRET = f"(?:{_LOOKS}){_REST}|{_BEARER}|{_PASSWORD}"

_NAME = (
    r"(?is)"
    r"(?:.*[_-])?(?:token|secret|assertion|password|private_key|api[_-]?key"
    r"|access_key|authorization|cookie)"
    r"|.*[a-z](?:Token|Secret|Assertion|Password)"
)
_VARIABLE = r"(?:.*_)?(?:API_KEY|ADMIN_KEY|TOKEN|SECRET|PASSWORD|ACCESS_KEY)"
_PLAIN_HEADERS = ("accept", "content-type", "metadata", "metadata-flavor", "user-agent")
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=%")


def hide(text: str) -> str:
    """Replace everything in *text* that looks like a token, a key or a password in a URL."""
    return re.sub(_SECRET, HIDDEN, text, flags=re.DOTALL)


def looks_secret(text: str) -> bool:
    """Whether *text* contains a token or a key, which must have been pasted there by mistake."""
    return any(mark in text for mark in _MARKS) and re.search(_LOOKS, text, re.DOTALL) is not None


class Secrets:
    """Secret values that no text may show.

    The repr of this object does not show them, and a copy does not contain them.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._unread: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        """The number of values."""
        return f"Secrets({len(self._values)})"

    def __reduce__(self) -> tuple[type["Secrets"], tuple[()]]:
        """An empty object: a pickle or a copy contains no secret."""
        return Secrets, ()

    def add(self, value: str) -> None:
        """Hide *value* from now on, each of its lines, and its parts.

        The parts are those of a JSON Web Token, and those between `=`.
        """
        parts = [
            value,
            value.strip(),
            " ".join(value.split()),
            *(line.strip() for line in value.splitlines()),
        ]
        parts += value.strip().split("=")  # Click takes the text after `=` for an option's value
        if value.startswith("eyJ"):
            parts += value.strip().split(".")
        self._values.update(
            part for part in parts if len(part) >= MIN_LENGTH and not part.startswith("-----")
        )

    def add_data(self, data: object) -> None:
        """Hide each value in *data*, parsed JSON, that has the name of a secret, at any depth.

        A credentials file may name headers. A header is hidden unless it is known to
        hold no secret.
        """
        rest = [(data, False)]
        while rest:
            item, is_secret = rest.pop()
            if isinstance(item, str):
                if is_secret:
                    self.add(item)
                elif "://" in item and "?" in item:
                    self.add_url(item)
            elif isinstance(item, Mapping):
                # The headers of a signed AWS request: [{"key": "x-amz-security-token",
                # "value": "…"}].
                named = item.get("key")
                if isinstance(named, str) and re.fullmatch(_NAME, named):
                    rest.append((item.get("value"), True))
                for name, value in item.items():
                    if name == "headers" and isinstance(value, Mapping):
                        self.add_headers(value)
                    rest.append((value, is_secret or re.fullmatch(_NAME, str(name)) is not None))
            elif isinstance(item, list | tuple):
                rest += [(each, is_secret) for each in item]

    def add_headers(self, headers: Mapping[str, str | bytes]) -> None:
        """Hide the values of *headers*, except those that are known to hold no secret."""
        for name, value in headers.items():
            if name.lower() in _PLAIN_HEADERS or name.lower().startswith(("x-goog-", "content-")):
                continue
            # google-auth passes on the session token of AWS's metadata server as bytes,
            # as it received them.
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            scheme, _, credential = text.partition(" ")
            self.add(credential or scheme)
            if scheme.lower() == "basic":
                self.add(_unbase64(credential).partition(":")[2])

    def add_url(self, url: str) -> None:
        """Hide the password in *url*, and the secrets in its query."""
        try:
            parts = urlsplit(url)
            self.add(parts.password or "")
        except ValueError:
            return
        self.add_data(dict(parse_qsl(parts.query)))

    def later(self, add: Callable[[], None]) -> None:
        """Call *add*, which adds secrets, only when a text has to be redacted.

        Most requests succeed, and then no text is redacted.
        """
        self._unread.append(add)

    def add_request(
        self, url: str, body: bytes | str | None, headers: Mapping[str, str | bytes] | None
    ) -> None:
        """Hide the secrets in a request: in its URL, its headers and its body, a form or JSON."""
        self.add_url(url)
        self.add_headers(headers or {})
        self.add_body(body or b"")
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
        form = dict(parse_qsl(text))
        self.add_data(form)
        for value in form.values():
            self.add_body(unquote(value))  # AWS's signed request is JSON within a form

    def add_body(self, body: bytes | str) -> None:
        """Hide the values in *body* that have the name of a secret, if *body* is JSON."""
        try:
            self.add_data(json.loads(body))
        except (ValueError, RecursionError):
            return

    def add_environ(self, environ: Mapping[str, str]) -> None:
        """Hide the values of variables that have the name of a secret, such as `OPENAI_API_KEY`."""
        for name in environ:
            if re.fullmatch(_VARIABLE, name):
                self.add(environ[name])

    def redact(self, text: str) -> str:
        """Replace each known value in *text*: as it is, in base64, or escaped.

        An escaped value is escaped for a URL, for JSON or for HTML.
        """
        while self._unread:
            self._unread.pop()()
        if "&" in text:
            import html

            # HTML may escape any character, by name or by number. So unescape the text
            # as a browser does.
            plain = html.unescape(text)
            if (redacted := self._redact(plain)) != plain:
                return redacted
        return self._redact(text)

    def _redact(self, text: str) -> str:
        for form in sorted(
            {form for value in self._values for form in _spellings(value)}, key=len, reverse=True
        ):
            text = text.replace(form, HIDDEN)
        for value in self._values:
            for core in _base64_cores(value):
                text = _without_runs(text, core)
        return text


def of_environ(environ: Mapping[str, str]) -> Secrets:
    """The secrets in the variables of *environ*."""
    secrets = Secrets()
    secrets.add_environ(environ)
    return secrets


def _spellings(value: str) -> Iterable[str]:
    """The spellings of *value*: as it is, and as URLs, JSON and Python write it."""
    texts = {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    }
    texts |= {text.replace("/", "\\/") for text in texts}
    data = value.encode("utf-8", "surrogatepass")
    quoted = {
        quote(data, safe=""),
        quote(data),
        quote_plus(data),
        quote(quote(data, safe=""), safe=""),
    }
    return (
        texts
        | quoted
        | {re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in quoted}
    )


def _base64_cores(value: str) -> Iterable[str]:
    """The texts of which one is in the base64 of every text that contains *value*.

    Base64 encodes three bytes at a time. So *value* may start at each of three places
    in a group.
    """
    data = value.encode("utf-8", "surrogatepass")
    cores = set()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + data).decode()
        # Leave out the characters that also encode bits of the neighbouring bytes.
        core = coded[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]
        cores |= {
            core,
            core.replace("+", "-").replace("/", "_"),
            quote(core, safe=""),
            core.replace("/", "\\/"),
        }
    return cores


def _without_runs(text: str, core: str) -> str:
    """Replace the base64 words in *text* that contain *core*."""
    while (start := text.find(core)) >= 0:
        end = start + len(core)
        while start > 0 and text[start - 1] in _BASE64:
            start -= 1
        while end < len(text) and text[end] in _BASE64:
            end += 1
        text = f"{text[:start]}{HIDDEN}{text[end:]}"
    return text


def _unbase64(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
