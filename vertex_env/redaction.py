"""Texts without secrets: by what tokens and keys look like, and by the exact values that are known.

The first is for texts of any origin: a token that was pasted in the wrong place. The second is for what a server
says: it may repeat a secret that looks like nothing in particular, as it is or in another spelling.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

HIDDEN = "[hidden]"

MIN_LENGTH = 8
"""A shorter value may be a word that messages need."""

_ESCAPED = r"(?<=%[0-9A-Fa-f]{2})"
_START = rf"(?:(?<![A-Za-z0-9])|{_ESCAPED})"
"""No letter and no digit before, as `\\b` says, but an underscore or a URL's escape may be there."""

_SHAPES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("-----BEGIN",), r"-----BEGIN.*?(?:-----END[^-]*-----|\Z)"),
    # Google's access tokens, its keys (https://cloud.google.com/docs/authentication/api-keys),
    # refresh tokens, codes of a login and client secrets
    # (https://developers.google.com/identity/protocols/oauth2), all 2026-11.
    (("ya29.", "ya29%2"), r"ya29(?:\.|%2[Ee])[\w.~+/=%-]*"),
    (("AIza",), r"AIza[\w-]{16,}"),
    (("AQ.",), rf"{_START}AQ\.[\w-]{{16,}}"),
    (("1//", "1%2"), rf"(?:(?<!\w)|{_ESCAPED})1(?://|%2[Ff]%2[Ff])[\w-]{{8,}}"),
    (("4/", "4%2"), rf"(?:(?<!\w)|{_ESCAPED})4(?:/|%2[Ff])0A[\w-]{{16,}}"),
    (("GOCSPX-",), r"GOCSPX-[\w-]*"),
    # JSON Web Tokens, and the inside of a PEM file.
    (("eyJ",), rf"{_START}eyJ[\w-]{{8,}}[\w.+/=%-]*"),
    (("MII",), rf"{_START}MII[A-Za-z0-9+/]{{32,}}=*"),
    # A credentials file: as it is or in a string, and in base64, which may be broken into lines.
    (
        ("client_secret", "refresh_token", "private_key"),
        r"(?:client_secret|refresh_token|private_key)\\*[\"']\s*:\s*\\*[\"'](?:[^\"'\\{}]|\\+[^\"'])+",
    ),
    (
        ("ewog", "ew0K"),
        r"\bew(?:og|0K)[\w+/-]{24,}=*(?:(?:\\[nr]|\s)+(?:[\w+/-]{24,}=*|[\w+/-]*=+))*",
    ),
    # Keys of OpenAI and those who copied the shape, GitHub's and GitLab's tokens, and Hugging
    # Face's.
    (("sk-",), rf"{_START}sk-(?=[\w-]*[0-9A-Z])[\w-]{{16,}}"),
    (("gho_", "ghp_", "ghs_", "ghu_", "ghr_"), r"gh[opsur]_[A-Za-z0-9]{30,}"),
    (("hf_",), rf"{_START}hf_[A-Za-z0-9]{{30,}}"),
    (("github_pat_", "glpat-"), r"(?:github_pat_|glpat-)[\w-]{20,}"),
)
"""What tokens and keys look like: texts of which one is in each, and the pattern.

Most texts have none of the first, and then no pattern need be compiled.
"""
_LOOKS = "|".join(pattern for _, pattern in _SHAPES)
_MARKS = tuple(mark for marks, _ in _SHAPES for mark in marks)
_BEARER = r"(?<=Bearer )(?=\S{16})[^\s'\"]+"
_PASSWORD = r"(?<=//)[^/\s]+(?=@)"  # noqa: S105 -- a pattern
_REST = r"(?:(?:\\+[nrt]?|\s)+(?=[\w-]*[0-9])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w.~+/=%-]{12,})*"  # as repr writes it, too
"""What follows where a token was pasted in more lines than one: a word that has what tokens have."""
_SECRET = f"(?:{_LOOKS}){_REST}|{_BEARER}|{_PASSWORD}"

_NAME = (
    r"(?is)"
    r"(?:.*[_-])?(?:token|secret|assertion|password|private_key|api[_-]?key|access_key|authorization|cookie)"
    r"|.*[a-z](?:Token|Secret|Assertion|Password)"
)
_VARIABLE = r"(?:.*_)?(?:API_KEY|ADMIN_KEY|TOKEN|SECRET|PASSWORD|ACCESS_KEY)"
_PLAIN_HEADERS = ("accept", "content-type", "metadata", "metadata-flavor", "user-agent")
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=%")


def hide(text: str) -> str:
    """*text* without anything that looks like a token, a key or a password in a URL."""
    return re.sub(_SECRET, HIDDEN, text, flags=re.DOTALL)


def looks_secret(text: str) -> bool:
    """Whether a token or a key is in *text*, which therefore was pasted in the wrong place."""
    return any(mark in text for mark in _MARKS) and re.search(_LOOKS, text, re.DOTALL) is not None


class Secrets:
    """Values that no text may show. Neither its repr nor a copy of it shows them."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._unread: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        """How many there are."""
        return f"Secrets({len(self._values)})"

    def __reduce__(self) -> tuple[type["Secrets"], tuple[()]]:
        """Whoever pickles an object that has them gets none."""
        return Secrets, ()

    def add(self, value: str) -> None:
        """Hide *value* from now on, each of its lines, and its parts: of a JSON Web Token, or between `=`."""
        parts = [
            value,
            value.strip(),
            " ".join(value.split()),
            *(line.strip() for line in value.splitlines()),
        ]
        parts += value.strip().split("=")  # Click takes what follows one for an option's value
        if value.startswith("eyJ"):
            parts += value.strip().split(".")
        self._values.update(
            part for part in parts if len(part) >= MIN_LENGTH and not part.startswith("-----")
        )

    def add_data(self, data: object) -> None:
        """Hide each value in *data*, as JSON gives it, whose name says that it is a secret, at any depth.

        Among the headers that a credentials file names, those are secrets that are not known to be none.
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
                # The headers of a signed AWS request: [{"key": "x-amz-security-token", "value": "…"}].
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
        """Hide the values of *headers* but for the ones that are known to be no secrets."""
        for name, value in headers.items():
            if name.lower() in _PLAIN_HEADERS or name.lower().startswith(("x-goog-", "content-")):
                continue
            # google-auth gives the session token of AWS's metadata server as the bytes that it got.
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            scheme, _, credential = text.partition(" ")
            self.add(credential or scheme)
            if scheme.lower() == "basic":
                self.add(_unbase64(credential).partition(":")[2])

    def add_url(self, url: str) -> None:
        """Hide the password and the secrets in the query of *url*."""
        try:
            parts = urlsplit(url)
            self.add(parts.password or "")
        except ValueError:
            return
        self.add_data(dict(parse_qsl(parts.query)))

    def later(self, add: Callable[[], None]) -> None:
        """Have *add* call other methods before anything is hidden: most requests succeed, and nothing is."""
        self._unread.append(add)

    def add_request(
        self, url: str, body: bytes | str | None, headers: Mapping[str, str | bytes] | None
    ) -> None:
        """Hide what a request sends: a form or JSON, and its headers."""
        self.add_url(url)
        self.add_headers(headers or {})
        self.add_body(body or b"")
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
        form = dict(parse_qsl(text))
        self.add_data(form)
        for value in form.values():
            self.add_body(unquote(value))  # AWS's signed request is JSON in a form

    def add_body(self, body: bytes | str) -> None:
        """Hide what *body* names as secrets, if it is JSON."""
        try:
            self.add_data(json.loads(body))
        except (ValueError, RecursionError):
            return

    def add_environ(self, environ: Mapping[str, str]) -> None:
        """Hide the values of variables with such names as `OPENAI_API_KEY`."""
        for name in environ:
            if re.fullmatch(_VARIABLE, name):
                self.add(environ[name])

    def redact(self, text: str) -> str:
        """*text* without any of the values, as they are, or escaped for a URL, JSON or HTML, or in base64."""
        while self._unread:
            self._unread.pop()()
        if "&" in text:
            import html

            # Any character may be escaped, by name or by number: so it is read as a browser does.
            plain = html.unescape(text)
            text = plain if self._redact(plain) != plain else text
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
    """*value* as it is and as URLs, JSON and Python write it."""
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
    """What base64 of any text has in it if *value* is in that text, which may begin at each of three places."""
    data = value.encode("utf-8", "surrogatepass")
    cores = set()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + data).decode()
        # Characters with bits of what stands before or after are left out.
        core = coded[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]
        cores |= {
            core,
            core.replace("+", "-").replace("/", "_"),
            quote(core, safe=""),
            core.replace("/", "\\/"),
        }
    return cores


def _without_runs(text: str, core: str) -> str:
    """*text* without the words of base64 that have *core* in them."""
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
