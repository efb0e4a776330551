"""Base URLs: the shapes that Google has, and what must never come near one."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from vertex_env.errors import SettingsError
from vertex_env.settings.kinds import Text
from vertex_env.settings.options import OPTIONS
from vertex_env.settings.resolve import options_layer, resolve
from vertex_env.vertex import target as rules
from vertex_env.vertex.target import Api, Target, api_host, check_url, is_loopback, is_zone

PROJECT = "my-project-123"
OPENAPI = "/v1/projects/my-project-123/locations/global/endpoints/openapi"

# --- the shapes of Google's URLs ---


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("northamerica-northeast1", "northamerica-northeast1-aiplatform.googleapis.com"),
        ("asia", "asia-aiplatform.googleapis.com"),
    ],
)
def test_host_of_a_location(location: str, host: str) -> None:
    """Global has no prefix, multi-regions have a host of their own, everything else is a prefix."""
    assert api_host(location) == host


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.s3nsapis.fr"),
        ("eu", "aiplatform.eu.rep.s3nsapis.fr"),
        ("u-france-east1", "u-france-east1-aiplatform.s3nsapis.fr"),
    ],
)
def test_host_in_another_universe(location: str, host: str) -> None:
    """Another universe has its own domain in place of googleapis.com."""
    assert api_host(location, "s3nsapis.fr") == host


@pytest.mark.parametrize(
    ("location", "api", "version", "endpoint", "url"),
    [
        (
            "global",
            "chat",
            "v1",
            "openapi",
            "https://aiplatform.googleapis.com/v1/projects/my-project-123/locations/global/endpoints/openapi",
        ),
        (
            "us-central1",
            "chat",
            "v1",
            "openapi",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/my-project-123/locations/us-central1/endpoints/openapi",
        ),
        (
            "us",
            "chat",
            "v1",
            "openapi",
            "https://aiplatform.us.rep.googleapis.com/v1/projects/my-project-123/locations/us/endpoints/openapi",
        ),
        (
            "eu",
            "chat",
            "v1",
            "openapi",
            "https://aiplatform.eu.rep.googleapis.com/v1/projects/my-project-123/locations/eu/endpoints/openapi",
        ),
        (
            "europe-west4",
            "chat",
            "v1beta1",
            "openapi",
            "https://europe-west4-aiplatform.googleapis.com/v1beta1/projects/my-project-123/locations/europe-west4/endpoints/openapi",
        ),
        (
            "europe-west4",
            "chat",
            "v1",
            "1234567890123456789",
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/my-project-123/locations/europe-west4/endpoints/1234567890123456789",
        ),
        (
            "global",
            "responses",
            "v1",
            "openapi",
            "https://aiplatform.googleapis.com/v1/projects/my-project-123/locations/global/publishers/openai/v1",
        ),
        (
            "eu",
            "responses",
            "v1beta1",
            "openapi",
            "https://aiplatform.eu.rep.googleapis.com/v1beta1/projects/my-project-123/locations/eu/publishers/openai/v1",
        ),
    ],
    ids=[
        "global",
        "region",
        "us",
        "eu",
        "another version",
        "self-deployed, shared host",
        "partner models of OpenAI",
        "the same in eu",
    ],
)
def test_base_url(location: str, api: Api, version: str, endpoint: str, url: str) -> None:
    """Every shape of the table, written out."""
    target = Target(PROJECT, location, f"https://{api_host(location)}", api, version, endpoint)
    assert target.base_url == url


def test_base_url_of_a_dedicated_host() -> None:
    """A dedicated host takes the place of the region's, the path stays."""
    host = "1234.europe-west4-998877665544.prediction.vertexai.goog"
    target = Target(PROJECT, "europe-west4", f"https://{host}", endpoint="1234")
    assert (
        target.base_url
        == f"https://{host}/v1/projects/my-project-123/locations/europe-west4/endpoints/1234"
    )


def test_base_url_in_another_universe() -> None:
    """The path is the same in every universe."""
    target = Target(
        "s3ns:my-project", "u-france-east1", f"https://{api_host('u-france-east1', 's3nsapis.fr')}"
    )
    assert target.base_url == (
        "https://u-france-east1-aiplatform.s3nsapis.fr/v1/projects/s3ns:my-project/locations/u-france-east1"
        "/endpoints/openapi"
    )


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_verbatim_base_url_is_verbatim(api: Api) -> None:
    """What the user gave whole is used whole."""
    target = Target(
        "", "global", "https://x.googleapis.com", api, verbatim="https://x.googleapis.com/a"
    )
    assert target.base_url == "https://x.googleapis.com/a"


def test_parent_is_the_resource_name_of_the_location() -> None:
    """Requests to the API itself start with it."""
    assert Target(PROJECT, "eu", "https://x").parent == "projects/my-project-123/locations/eu"


# --- where a token may go ---


@pytest.mark.parametrize(
    "url",
    [
        f"https://aiplatform.googleapis.com{OPENAPI}",
        "https://aiplatform.googleapis.com/v1/projects/p/locations/us-central1/endpoints/openapi",
        "https://aiplatform.europe-west4.rep.googleapis.com/v1",
        "https://aiplatform.europe-west4.p.rep.googleapis.com/v1",
        "https://aiplatform.mtls.googleapis.com/v1",
        "https://europe-west4-aiplatform.mtls.googleapis.com/v1",
        "https://aiplatform-genai1.p.googleapis.com/v1",
        "https://1234.us-central1-fasttryout.prediction.vertexai.goog/v1",
        "https://AIPlatform.GoogleAPIs.com/v1",
        "https://aiplatform.googleapis.com:443/v1",
        "https://aiplatform.googleapis.com",
        "https://aiplatform.googleapis.com/v1/projects/example.com:my-project/locations/global/endpoints/openapi",
        "https://aiplatform.googleapis.com/v1/a%2Fb@c",
    ],
    ids=[
        "global",
        "global host with a region's path",
        "REP",
        "private REP",
        "mTLS",
        "mTLS of a region",
        "PSC",
        "dedicated",
        "upper case",
        "port",
        "no path",
        "domain-scoped project",
        "percent and at in the path",
    ],
)
def test_google_hosts_are_accepted(url: str) -> None:
    """Every host that only Google runs may get the token, and the URL stays as it was written."""
    assert check_url(url, what="--base-url", allowed=()) == url


def test_trailing_slash_is_dropped() -> None:
    """Clients append /chat/completions, which must not come after two slashes."""
    assert (
        check_url("https://x.googleapis.com/v1/", what="w", allowed=())
        == "https://x.googleapis.com/v1"
    )


def test_universe_counts_as_google() -> None:
    """The universe of the credentials may get their token, and does not shut out Google's own domain."""
    url = "https://u-france-east1-aiplatform.s3nsapis.fr/v1"
    google = "https://aiplatform.googleapis.com/v1"
    assert check_url(url, what="w", allowed=(), universe="s3nsapis.fr") == url
    assert check_url(google, what="w", allowed=(), universe="s3nsapis.fr") == google
    with pytest.raises(SettingsError, match="not a Google host"):
        check_url(url, what="w", allowed=())
    with pytest.raises(SettingsError, match="not a Google host"):
        check_url("https://evil-s3nsapis.fr/v1", what="w", allowed=(), universe="s3nsapis.fr")


EVIL_HOSTS = {
    "userinfo": "https://aiplatform.googleapis.com@evil.com/v1",
    "userinfo without a path": "https://aiplatform.googleapis.com@evil",
    "user and password": "https://aiplatform.googleapis.com:443@evil.com",
    "suffix without a dot": "https://evil-googleapis.com/v1",
    "prefix": "https://googleapis.com.evil/v1",
    "prefix with a host": "https://aiplatform.googleapis.com.evil.com/v1",
    "look-alike of vertexai.goog": "https://xvertexai.goog/v1",
    "vertexai.goog as a prefix": "https://vertexai.goog.evil.com/v1",
    "no host before the domain": "https://googleapis.com/v1",
    "the domain after an empty label": "https://.googleapis.com/v1",
    "an empty label": "https://evil..googleapis.com/v1",
    "trailing dot": "https://aiplatform.googleapis.com./v1",
    "trailing dots": "https://aiplatform.googleapis.com../v1",
    "another host": "https://api.openai.com/v1",
    "address": "https://192.0.2.1/v1",
    "address as a number": "https://3221225985/v1",
    "IPv6": "https://[2001:db8::1]/v1",
    "IPv6 before Google": "https://[2001:db8::1].googleapis.com/v1",
    "IPv6 before Google without a dot": "https://[::1]aiplatform.googleapis.com/v1",
    "IPv6 after Google": "https://aiplatform.googleapis.com[::1]/v1",
    "IPv6 with a zone": "https://[fe80::1%25eth0]/v1",
    "IPv4 within IPv6": "https://[::ffff:192.0.2.1]/v1",
    "unclosed bracket": "https://[::1/v1",
    "Google in brackets": "https://[aiplatform.googleapis.com]/v1",
    "port that is none": "https://aiplatform.googleapis.com:x/v1",
    "port that is a host": "https://evil.com:aiplatform.googleapis.com/v1",
    "empty port": "https://aiplatform.googleapis.com:/v1",
    "port out of range": "https://aiplatform.googleapis.com:65536/v1",
    "long port": "https://aiplatform.googleapis.com:000443/v1",
    "two ports": "https://aiplatform.googleapis.com:443:443/v1",
    "backslash": "https://evil.com\\.googleapis.com/v1",
    "backslash and at": "https://evil.com\\@aiplatform.googleapis.com/v1",
    "slash and backslash": "https:/\\evil.com/aiplatform.googleapis.com",
    "fragment": "https://evil.com#.googleapis.com/v1",
    "query": "https://evil.com?.googleapis.com/v1",
    "query after Google": "https://aiplatform.googleapis.com/v1?key=1",
    "fragment after Google": "https://aiplatform.googleapis.com/v1#a",
    "percent-encoded dot": "https://evil%2egoogleapis.com/v1",
    "percent-encoded slash": "https://evil.com%2f.googleapis.com/v1",
    "percent-encoded at": "https://aiplatform.googleapis.com%40evil.com/v1",
    "ideographic full stop": "https://aiplatform.googleapis.com\u3002evil.com/v1",
    "fullwidth full stop": "https://evil\uff0egoogleapis.com/v1",
    "halfwidth full stop": "https://evil\uff61googleapis.com/v1",
    "one dot leader": "https://evil\u2024googleapis.com/v1",
    "fullwidth solidus": "https://evil.com\uff0f.googleapis.com/v1",
    "account of": "https://evil.c\u2100.googleapis.com/v1",
    "Cyrillic letter": "https://aiplatform.g\u043eogleapis.com/v1",
    "Kelvin sign": "https://\u212aaiplatform.googleapis.com/v1",
    "long s": "https://aiplatform.google\u017fapis.com/v1",
    "soft hyphen": "https://aiplatform.googleapis.com\u00ad/v1",
    "right-to-left override": "https://aiplatform.googleapis.com/\u202ev1",
    "line break at the end": "https://aiplatform.googleapis.com/v1\n",
    "line break after the host": "https://aiplatform.googleapis.com\n",
    "line break within": "https://evil.com\n.googleapis.com/v1",
    "carriage return": "https://aiplatform.googleapis.com/v1\r",
    "tab, which urlsplit drops": "https://aiplatform.googleapis.com\t.evil.com/v1",
    "space": "https://aiplatform.googleapis.com /v1",
    "space before": " https://aiplatform.googleapis.com/v1",
    "NUL": "https://aiplatform.googleapis.com\0.evil.com/v1",
    "quote": "https://aiplatform.googleapis.com/v1'",
    "double quote": 'https://aiplatform.googleapis.com/v1"',
    "command": "https://aiplatform.googleapis.com/$(id)",
    "backtick": "https://aiplatform.googleapis.com/`id`",
    "semicolon": "https://aiplatform.googleapis.com/v1;id",
    "ampersand": "https://aiplatform.googleapis.com/v1&id",
    "two slashes in the path": "https://aiplatform.googleapis.com//evil.com",
    "three slashes": "https:///aiplatform.googleapis.com/v1",
    "no scheme": "aiplatform.googleapis.com/v1",
    "no scheme but slashes": "//aiplatform.googleapis.com/v1",
    "another scheme": "ftp://aiplatform.googleapis.com/v1",
    "file": "file:///etc/passwd",
    "scheme in upper case": "HTTPS://aiplatform.googleapis.com/v1",
    "underscore": "https://evil_x.googleapis.com/v1",
    "empty": "",
    "nothing but a scheme": "https://",
}


@pytest.mark.parametrize("url", EVIL_HOSTS.values(), ids=EVIL_HOSTS.keys())
@pytest.mark.parametrize("path", ["", OPENAPI], ids=["as it is", "with a path"])
def test_other_hosts_are_refused(url: str, path: str) -> None:
    """A URL that could be read as another host's, by anybody, gets no token."""
    with pytest.raises(SettingsError) as e:
        check_url(url + path, what="--base-url", allowed=())
    assert e.value.message.startswith("--base-url ")
    assert e.value.message.isprintable()
    assert e.value.hint.isprintable()


EXAMPLE = "give a URL such as https://aiplatform.googleapis.com/v1/projects/P/locations/global/endpoints/openapi"


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("https://x\n", r"--base-url is not a plain http(s) URL: 'https://x\n'", EXAMPLE),
        (
            "https://x.googleapis.com:65536",
            "--base-url is not a URL: 'https://x.googleapis.com:65536' (Port out of range 0-65535)",
            EXAMPLE,
        ),
        (
            "https://X.example.com:443/v1",
            "--base-url would send the access token to 'x.example.com', which is not a Google host",
            "if that host is yours and meant, add --allow-host x.example.com",
        ),
        (
            "http://x.googleapis.com/v1",
            "--base-url would send the access token to 'x.googleapis.com' in the clear",
            "use https; plain http is for loopback only",
        ),
    ],
    ids=["not plain", "not a URL", "another host", "in the clear"],
)
def test_what_is_said_of_a_refused_url(url: str, message: str, hint: str) -> None:
    """The message names the setting, the host and the danger; the hint says what would do."""
    with pytest.raises(SettingsError) as e:
        check_url(url, what="--base-url", allowed=())
    assert (e.value.message, e.value.hint) == (message, hint)


@pytest.mark.parametrize(
    "url",
    [
        "http://aiplatform.googleapis.com/v1",
        "http://10.1.2.3/v1",
        "http://0.0.0.0/v1",
        "http://127.0.0.1.evil.com/v1",
        "http://localhost.evil.com/v1",
        "http://127.1/v1",
        "http://2130706433/v1",
        "http://[::ffff]/v1",
    ],
)
def test_plain_http_leaves_no_machine(url: str) -> None:
    """Not even `--allow-host` lets a token travel in the clear."""
    host = urlsplit(url).netloc
    with pytest.raises(SettingsError, match="in the clear"):
        check_url(url, what="--base-url", allowed=(host,))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://llm.example.com/v1", "llm.example.com"),
        ("https://llm.example.com:8443/v1", "llm.example.com"),
        ("https://LLM.example.com/v1", "llm.example.com"),
        ("https://llm.example.com/v1", "LLM.Example.com"),
        ("https://10.1.2.3/v1", "10.1.2.3"),
        ("https://[2001:DB8::1]:8443/v1", "[2001:db8::1]"),
        ("http://[::1]:8080/v1", "[::1]"),
        ("http://127.0.0.1:8080/v1", "127.0.0.1"),
        ("http://localhost:8080/v1", "localhost"),
    ],
)
def test_allowed_host(url: str, allowed: str) -> None:
    """`--allow-host` lets its host in, in whatever case either is written, and no other."""
    assert matches("allow-host", allowed)
    assert check_url(url, what="w", allowed=("other.example.com", allowed)) == url
    with pytest.raises(SettingsError, match="not a Google host"):
        check_url(url, what="w", allowed=("other.example.com", f"x.{allowed}", "com", ""))


@pytest.mark.parametrize(
    "url", ["https://evil.example.com/v1", "http://[::1]:8080/v1", "https://LLM.example.com"]
)
def test_hint_about_a_foreign_host_cures_it(url: str) -> None:
    """The option that the hint names is accepted and does what it says."""
    with pytest.raises(SettingsError) as e:
        check_url(url, what="w", allowed=())
    hint = e.value.hint
    assert hint.startswith("if that host is yours and meant, add --allow-host ")
    layer = options_layer({"allow_host": [hint.rpartition(" ")[2]]})
    assert check_url(url, what="w", allowed=resolve([layer]).allow_host.value) == url


@pytest.mark.parametrize(
    "host", ["evil.com@x", "*.example.com", "*", "a/b", "a:80", "", ".", "[::1", "é.com", "a\n"]
)
def test_allowed_host_is_a_host(host: str) -> None:
    """`--allow-host` takes neither patterns nor URLs."""
    with pytest.raises(SettingsError, match="allow-host"):
        resolve([options_layer({"allow_host": [host]})])


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("127.0.0.1.example.com", False),
        ("127.0.0.1\n", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:  # noqa: FBT001
    """Loopback is what can only be this machine."""
    assert is_loopback(host) is loopback


SAFE_URL = re.compile(r"https://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~:@%+=,-]+)*")
SPLICES = st.sampled_from(
    ["", "@evil", ".", "/", "//", "\\", ":", "#", "?", "\n", "\t", "%2e", "\uff0e", "[::1]", "evil"]
)
URLS = st.builds(
    "{}https://{}aiplatform{}googleapis{}com{}/v1{}".format,
    SPLICES,
    SPLICES,
    SPLICES,
    SPLICES,
    SPLICES,
    SPLICES,
)


@given(
    url=URLS
    | st.text("htps:/@.[]#?%\\ \n:aiplatform.googleapis.com", max_size=60).map("https://".__add__)
)
@examples(deadline=None, max_examples=1000)
def test_accepted_urls_are_googles_for_every_reader(url: str) -> None:
    """What is accepted has one reading only: a Google host, and a path of harmless characters."""
    try:
        accepted = check_url(url, what="w", allowed=())
    except SettingsError:
        return
    assert SAFE_URL.fullmatch(accepted)
    # As a naive reader would take it: up to the first slash, less the port.
    host = accepted.removeprefix("https://").split("/")[0].split(":")[0].lower()
    assert host == urlsplit(accepted).hostname
    assert host.endswith((".googleapis.com", ".vertexai.goog"))
    assert all(host.split("."))


# --- what enters a URL ---

KINDS = {option.name: getattr(option.kind, "item", option.kind) for option in OPTIONS}


def matches(what: str, value: str) -> bool:
    """Whether *value* has the shape of *what*: a setting, or what Google answers."""
    kind = KINDS.get(what)
    return kind.fits(value) if isinstance(kind, Text) else rules.matches(what, value)


GOOD = {
    "project": [
        "my-project-123",
        "abcdef",
        "a" + "b" * 29,
        "123456789012",
        "example.com:my-project",
        "1",
    ],
    "quota-project": ["my-project-123", "123456789012", "example.com:my-project"],
    "location": ["global", "us", "eu", "us-central1", "europe-west4", "northamerica-northeast1"],
    "endpoint ID": ["1", "12345678901234567890", "mg-endpoint-0c6f", "a", "a" * 63],
    "endpoint": [
        "1234",
        "My endpoint",
        "gemma-3 (test)",
        "größer",
        "モデル",
        "a" * 128,
        "v1.2",
        "a_b",
    ],
    "api-version": ["v1", "v1beta1", "v2alpha3"],
    "model": [
        "google/gemini-2.5-flash",
        "meta/llama-3.3-70b-instruct-maas",
        "gemini-2.5-flash",
        "openai/gpt-oss-120b-maas",
        "a/b/c",
        "x:y",
    ],
    "universe": ["googleapis.com", "s3nsapis.fr", "apis-s3ns.fr"],
    "allow-host": ["llm.example.com", "localhost", "10.1.2.3", "[::1]", "LLM"],
    "impersonate": [
        "robot@my-project.iam.gserviceaccount.com",
        "123-compute@developer.gserviceaccount.com",
        "1234567",
    ],
    "scope": [
        "https://www.googleapis.com/auth/cloud-platform",
        "openid",
        "https://mail.google.com/",
    ],
    "profile": ["work", "work-2", "a", "a.b_c", "A1"],
}


@pytest.mark.parametrize(
    ("what", "value"), [(what, value) for what, values in GOOD.items() for value in values], ids=str
)
def test_real_names_match(what: str, value: str) -> None:
    """Names that Google gives out, or that a user would choose, are accepted."""
    assert matches(what, value)


HOSTILE = {
    "quote": "'",
    "double quote": '"',
    "line break": "\n",
    "carriage return": "\r",
    "command": "$(id)",
    "variable": "$HOME",
    "backtick": "`id`",
    "NUL": "\0",
    "semicolon": ";id",
    "pipe": "|id",
    "ampersand": "&",
    "query": "?x=y",
    "fragment": "#",
    "backslash": "\\",
    "percent": "%2f",
    "brace": "{token}",
    "glob": "*",
    "tab": "\t",
    "escape": "\x1b[31m",
    "Arabic digit": "\u0661",
    "fullwidth digit": "\uff11",
    "superscript digit": "\u00b2",
    "Cyrillic letter": "\u0430",
    "Kelvin sign": "\u212a",
    "line separator": "\u2028",
    "next line": "\x85",
    "no-break space": "\u00a0",
    "right-to-left override": "\u202e",
    "soft hyphen": "\u00ad",
    "surrogate": "\udcff",
}
# A display name is never in a URL: it is compared with those that Google lists. So letters of any script are fine.
FINE_IN_A_NAME = {
    "Arabic digit",
    "fullwidth digit",
    "superscript digit",
    "Cyrillic letter",
    "Kelvin sign",
}

ELSEWHERE = {"up": "/..", "up first": "../", "host": "@evil", "host with a dot": "@evil.com/"}


@pytest.mark.parametrize(
    ("what", "splice"),
    [(w, s) for w in GOOD for s in HOSTILE if not (w == "endpoint" and s in FINE_IN_A_NAME)],
)
def test_hostile_characters_do_not_match(what: str, splice: str) -> None:
    """A good value with something hostile before, in or after it is refused."""
    evil = HOSTILE[splice]
    for good in GOOD[what]:
        middle = len(good) // 2
        assert not matches(what, good + evil)
        assert not matches(what, evil + good)
        assert not matches(what, good[:middle] + evil + good[middle:])


@pytest.mark.parametrize("splice", ELSEWHERE)
@pytest.mark.parametrize("what", [w for w in GOOD if w not in ("impersonate", "scope")])
def test_values_do_not_lead_elsewhere(what: str, splice: str) -> None:
    """A good value that goes on to another folder or host, or comes from there, is refused."""
    for good in GOOD[what]:
        assert not matches(what, good + ELSEWHERE[splice])
        assert not matches(what, ELSEWHERE[splice] + good)


@pytest.mark.parametrize("what", GOOD)
def test_very_long_names_do_not_match(what: str) -> None:
    """What is longer than any name at Google was pasted by mistake; the limit is 256."""
    assert matches("model", "a" * 256)
    assert not matches("model", "a" * 257)
    for good in GOOD[what]:
        for length in (1000, 1_000_000):
            assert not matches(what, good + "a" * length)
            assert not matches(what, good[0] * length)


@pytest.mark.parametrize("what", GOOD)
@pytest.mark.parametrize("value", ["", " ", ".", "..", "-", "/", "@", ":", "\n"])
def test_punctuation_alone_does_not_match(what: str, value: str) -> None:
    """A name has at least one letter or digit."""
    assert not matches(what, value)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("project", "My-Project"),
        ("project", "short"),
        ("project", "a" * 31),
        ("project", "my-project-"),
        ("project", "1-project"),
        ("project", "my_project"),
        ("project", "projects/my-project"),
        ("project", ":my-project"),
        ("project", "a:b:my-project"),
        ("location", "US-central1"),
        ("location", "us central1"),
        ("location", "us-central1-"),
        ("location", "1us"),
        ("location", "us.rep"),
        ("endpoint ID", "openapi/chat"),
        ("endpoint ID", "0123456789" * 3),
        ("endpoint ID", "1a"),
        ("endpoint", "projects/p/locations/l/endpoints/1"),
        ("endpoint", " a"),
        ("endpoint", "a "),
        ("endpoint", "a" * 129),
        ("api-version", "1"),
        ("api-version", "v"),
        ("api-version", "v1/projects"),
        ("api-version", "V1"),
        ("model", "google/"),
        ("model", "/gemini"),
        ("model", "google//gemini"),
        ("model", "google/../x"),
        ("model", "google/.x"),
        ("model", "-x"),
        ("universe", "googleapis"),
        ("universe", "googleapis.com."),
        ("universe", ".googleapis.com"),
        ("universe", "googleapis.com:443"),
        ("impersonate", "robot"),
        ("impersonate", "robot@localhost"),
        ("impersonate", "a@b.com/x"),
        ("impersonate", "a@b.com@c.com"),
        ("scope", "cloud-platform"),
        ("scope", "https://a b"),
        ("scope", "javascript:x"),
        ("profile", "../x"),
        ("profile", "-x"),
        ("profile", ".x"),
        ("profile", "a/b"),
    ],
)
def test_near_misses_do_not_match(what: str, value: str) -> None:
    """What nearly looks right is refused as well."""
    assert not matches(what, value)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("us-central1-a", True),
        ("northamerica-northeast1-c", True),
        ("us-central1", False),
        ("us", False),
        ("global", False),
        ("us-central1-a\n", False),
    ],
)
def test_zone(name: str, zone: bool) -> None:  # noqa: FBT001
    """A zone is a region with a letter; Vertex AI does not know it."""
    assert is_zone(name) is zone


# Made of good pieces and hostile ones, so that most are nearly right.
ALL_GOOD = sorted({value for values in GOOD.values() for value in values})
NAMES = st.lists(
    st.sampled_from([*ALL_GOOD, *HOSTILE.values(), *ELSEWHERE.values()]) | st.text(max_size=3),
    max_size=3,
).map("".join)


@given(values=st.lists(NAMES | st.sampled_from(ALL_GOOD), min_size=5, max_size=5), universe=NAMES)
@examples(deadline=None, max_examples=1000)
def test_nothing_hostile_enters_a_base_url(values: Sequence[str], universe: str) -> None:
    """Whatever is given for every part of a base URL: it is refused, or the URL is harmless."""
    keys = ("project", "location", "endpoint", "api", "api_version")
    # Each one tried on its own as well: with all five at once nearly everything is refused for one of the others.
    for given_values in [
        dict(zip(keys, values, strict=True)),
        *({k: v} for k, v in zip(keys, values, strict=True)),
    ]:
        try:
            found = resolve([options_layer(given_values)])
        except SettingsError:
            continue
        endpoint = found.endpoint.value or ""
        host = api_host(
            found.location.value, universe if matches("universe", universe) else "googleapis.com"
        )
        target = Target(
            found.project.value or "my-project",
            found.location.value,
            f"https://{host}",
            found.api.value,
            found.api_version.value,
            endpoint if matches("endpoint ID", endpoint) else "openapi",
        )
        assert re.fullmatch(
            r"https://[a-z0-9-]+(\.[a-z0-9-]+)+/v[0-9a-z]+/projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/"
            r"(endpoints/[a-z0-9-]+|publishers/openai/v1)",
            target.base_url,
        )
        assert ".." not in target.base_url.removeprefix("https://").partition("/")[2].split("/")


def test_a_password_in_a_refused_url_is_not_shown() -> None:
    """The message may end up in a log."""
    with pytest.raises(SettingsError) as caught:
        check_url("https://me:hunter2@aiplatform.googleapis.com/v1", what="--base-url", allowed=())
    assert "hunter2" not in caught.value.message
    assert "https://[hidden]@aiplatform.googleapis.com/v1" in caught.value.message
