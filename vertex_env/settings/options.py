"""What the user wants: every setting with its value and where that came from.

A pure function of layers that others have read. The first layer that has a setting wins: option, `VERTEX_ENV_*`
variable, profile in config.toml, Google's own variables, gcloud's active configuration, what the credentials say,
default.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from vertex_env.errors import SettingsError
from vertex_env.redaction import looks_secret
from vertex_env.vertex.target import Api, is_zone, matches
from vertex_env.vertex.variables import CLIENTS, check_template

T = TypeVar("T")

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_SCOPE_PREFIX = "https://www.googleapis.com/auth/"

MAX_LIFETIME = timedelta(hours=12)
"""https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
(2026-11-22)."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: the row that the command line, the variables, config.toml and the checks are made from."""

    name: str
    """Long option without the dashes, key in config.toml, and after `VERTEX_ENV_` the variable: `quota-project`."""
    metavar: str
    help: str
    google: tuple[str, ...] = ()
    """Google's own variables, first wins."""
    gcloud: str | None = None
    """gcloud's property, such as `core/project`."""
    many: bool = False
    """A list: the option repeats, and a value may be several items with commas. A template of `set`
    may have commas, so in its variable line breaks separate templates."""
    internal: bool = False
    """Only Google's variables and gcloud's properties set it."""

    @property
    def variable(self) -> str:
        """Such as `VERTEX_ENV_QUOTA_PROJECT`."""
        return "VERTEX_ENV_" + self.name.upper().replace("-", "_")

    @property
    def field(self) -> str:
        """Such as `quota_project`."""
        return self.name.replace("-", "_")


# Names and their order: google-auth 2.62.2 `environment_vars.py`; google-genai 3.4.0 and openai 3.54.0 read
# GOOGLE_CLOUD_LOCATION; gcloud's CLOUDSDK_SECTION_PROPERTY variables stand for its properties
# (https://cloud.google.com/sdk/docs/properties#setting_properties_using_environment_variables), all 2026-11-22.
OPTIONS: tuple[Option, ...] = (
    Option("profile", "NAME", "Profile in config.toml to start from."),
    Option(
        "project",
        "ID",
        "Google Cloud project.",
        google=("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"),
        gcloud="core/project",
    ),
    Option(
        "location",
        "NAME",
        "Vertex AI location: global, us, eu or a region. [default: global]",
        google=("GOOGLE_CLOUD_LOCATION", "CLOUDSDK_AI_REGION"),
        gcloud="ai/region",
    ),
    Option("endpoint", "ID|NAME", "Self-deployed endpoint, by ID or display name."),
    Option("model", "PUBLISHER/MODEL", "Model for OPENAI_MODEL, such as google/gemini-2.5-flash."),
    Option("api", "chat|responses", "OpenAI API to point at. [default: chat]"),
    Option("api-version", "VERSION", "Version of the Vertex AI API. [default: v1]"),
    Option("base-url", "URL", "Base URL to use as it is, instead of the one for project, location and endpoint."),
    Option("allow-host", "HOST,…", "Host besides Google's that may get the access token.", many=True),
    Option("credentials", "FILE", "ADC file.", google=("GOOGLE_APPLICATION_CREDENTIALS",)),
    Option("impersonate", "ACCOUNT", "Service account to impersonate; with delegates: D1,D2,ACCOUNT."),
    Option("lifetime", "DURATION", "Lifetime to ask for when impersonating, up to 12h. [default: 1h]"),
    Option("scope", "SCOPE,…", "OAuth scope. [default: cloud-platform]", many=True),
    Option("quota-project", "ID", "Project billed for quota.", google=("GOOGLE_CLOUD_QUOTA_PROJECT",)),
    Option("store", "file|keyring|none", "Where tokens are kept between calls. [default: file]"),
    Option("min-ttl", "DURATION", "Least time a token must have left; half its life at most. [default: 5m]"),
    Option("client", "NAME,…", f"Also set the names that a tool reads: {', '.join(CLIENTS)}.", many=True),
    Option("set", "NAME=TEMPLATE", "Also set NAME; {token}, {base_url}, {host}, {path}, … are filled in.", many=True),
    Option(
        "api-endpoint",
        "URL",
        "Root of the Vertex AI API.",
        google=("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM",),
        gcloud="api_endpoint_overrides/aiplatform",
        internal=True,
    ),
    Option(
        "iam-endpoint",
        "URL",
        "Root of the IAM Service Account Credentials API.",
        google=("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS",),
        gcloud="api_endpoint_overrides/iamcredentials",
        internal=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A raw value in some layer, and where it stood: `--project`, `GOOGLE_CLOUD_PROJECT`, `config.toml:3`."""

    value: str | tuple[str, ...]
    source: str


Layer = Mapping[str, Found]
"""Setting's name to what a layer has for it."""


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A checked value and where it came from."""

    value: T
    source: str = "default"

    def __str__(self) -> str:
        """For messages: `'my-project' from GOOGLE_CLOUD_PROJECT`."""
        return f"{self.value!r} from {self.source}" if self.source != "default" else f"{self.value!r} (default)"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked one by one; what they mean together is checked where they are used."""

    profile: Setting[str | None]
    project: Setting[str | None]
    location: Setting[str]
    endpoint: Setting[str | None]
    model: Setting[str | None]
    api: Setting[Api]
    api_version: Setting[str]
    base_url: Setting[str | None]
    allow_host: Setting[tuple[str, ...]]
    credentials: Setting[str | None]
    impersonate: Setting[tuple[str, ...]]
    """Delegates, then the target principal; empty for none."""
    lifetime: Setting[timedelta | None]
    scope: Setting[tuple[str, ...]]
    quota_project: Setting[str | None]
    store: Setting[str]
    min_ttl: Setting[timedelta]
    client: Setting[tuple[str, ...]]
    set: Setting[Mapping[str, str]]
    api_endpoint: Setting[str | None]
    iam_endpoint: Setting[str | None]


DEFAULTS: Mapping[str, object] = {
    "location": "global",
    "api": "chat",
    "api_version": "v1",
    "allow_host": (),
    "impersonate": (),
    "scope": (CLOUD_PLATFORM,),
    "store": "file",
    "min_ttl": timedelta(minutes=5),
    "client": (),
    "set": {},
}


def options_layer(options: Mapping[str, str | Sequence[str] | None]) -> Layer:
    """Layer of command-line options or keyword arguments, by field: `{"quota_project": "p", "client": ["aider"]}`."""
    found = {}
    for option in OPTIONS:
        value = None if option.internal else options.get(option.field)
        if isinstance(value, str) or value:
            found[option.name] = Found(value if isinstance(value, str) else tuple(value), f"--{option.name}")
    return found


def environ_layer(environ: Mapping[str, str]) -> Layer:
    """Layer of `VERTEX_ENV_*` variables; an empty one, or one with nothing but commas, counts as unset."""
    split = {o: _split(o, environ.get(o.variable, "")) for o in OPTIONS if not o.internal}
    return {o.name: Found(value, o.variable) for o, value in split.items() if value}


def google_layer(environ: Mapping[str, str]) -> Layer:
    """Layer of the variables that Google's own tools read; an empty one counts as unset."""
    found = {}
    for option in OPTIONS:
        for variable in option.google:
            if environ.get(variable):
                found[option.name] = Found(environ[variable], variable)
                break
    return found


def gcloud_layer(properties: Mapping[str, str], configuration: str) -> Layer:
    """Layer of gcloud's properties, such as `{"core/project": "p"}`."""
    return {
        o.name: Found(properties[o.gcloud], f"{o.gcloud} in gcloud's configuration {configuration!r}")
        for o in OPTIONS
        if o.gcloud is not None and properties.get(o.gcloud)
    }


def as_environ(layer: Layer) -> dict[str, str]:
    """*layer* as the `VERTEX_ENV_*` variables that mean the same, to hand options on to a child of our own."""
    result = {}
    for option in OPTIONS:
        if option.name in layer:
            value = layer[option.name].value
            separator = "\n" if option.name == "set" else ","
            result[option.variable] = value if isinstance(value, str) else separator.join(value)
    return result


def first(layers: Sequence[Layer], name: str) -> Found | None:
    """What the first layer that has *name* says."""
    return next((layer[name] for layer in layers if name in layer), None)


def resolve(layers: Sequence[Layer]) -> Settings:
    """The settings that *layers* add up to.

    Raises:
        SettingsError: A value does not have the shape it must have; the message names its source.
    """
    values: dict[str, Setting[object]] = {}
    for option in OPTIONS:
        found = first(layers, option.name)
        if found is None:
            values[option.field] = Setting(DEFAULTS.get(option.field))
        else:
            values[option.field] = Setting(_parse(option, found), found.source)
    return Settings(**values)  # type: ignore[arg-type]


def parse_duration(text: str) -> timedelta:
    """`90m`, `1h30m`, `45s`, `0.5s` or plain seconds.

    Raises:
        ValueError: It is none of these.
    """
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", text, re.ASCII):
        return timedelta(seconds=float(text))
    match = re.fullmatch(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s)?", text, re.ASCII)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration such as 90m, 1h30m or 45s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _split(option: Option, text: str) -> str | tuple[str, ...]:
    if not option.many:
        return text
    parts = text.split("\n") if option.name == "set" else re.split(r"[,\s]+", text)
    return tuple(part for part in parts if part)


# What a value must look like, for the hint; the pattern is in target.py under the same name.
_SHAPES: Mapping[str, str] = {
    "project": "a project ID looks like my-project-123; `gcloud projects list` shows yours",
    "quota-project": "a project ID looks like my-project-123; `gcloud projects list` shows yours",
    "location": "a location looks like global, us, eu or europe-west4",
    "endpoint": "give the endpoint's ID or its display name; `vertex-env endpoints --all-locations` lists them",
    "model": "a model looks like google/gemini-2.5-flash or meta/llama-3.3-70b-instruct-maas",
    "api-version": "a version looks like v1 or v1beta1",
    "allow-host": "give a host name alone, such as llm.example.com",
    "profile": "profiles are named in config.toml as [profile.NAME]",
    "impersonate": "give a service account such as robot@my-project.iam.gserviceaccount.com; delegates come before it",
    "scope": "a scope looks like https://www.googleapis.com/auth/cloud-platform, or cloud-platform for short",
}

_MISPLACED = "leave it out: the access token is minted, and a --set template has {token} where it belongs"

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "api": ("chat", "responses"),
    "store": ("file", "keyring", "none"),
    "client": tuple(CLIENTS),
}


def _parse(option: Option, found: Found) -> object:
    if option.name == "set":
        return _templates(found)
    if option.name == "impersonate":
        chain = tuple(part.strip() for part in ",".join(_items(found)).split(","))
        return tuple(_check(option.name, part, found.source) for part in chain)
    if option.many:
        return tuple(_check(option.name, item, found.source) for item in _listed(option, found))
    (text,) = _items(found)
    if option.name in ("lifetime", "min-ttl"):
        return _duration(option.name, text, found.source)
    return _check(option.name, text, found.source)


def _items(found: Found) -> tuple[str, ...]:
    return (found.value,) if isinstance(found.value, str) else found.value


def _listed(option: Option, found: Found) -> tuple[str, ...]:
    """The items of a list without the blank ones: `aider, goose,` is two clients.

    Where nothing is left, an empty text alone, which `_check` refuses.
    """
    for text in _items(found):
        _refuse_secret(option.name, text, found.source)  # a part of a key may not look like one
    items = [item.strip(" ") for text in _items(found) for item in text.split(",")]
    return tuple(item for item in items if item) or ("",)


def _refuse_secret(name: str, text: str, source: str) -> None:
    if looks_secret(text):
        raise SettingsError(f"{name} from {source} has a token or a key in it", _MISPLACED)


def _check(name: str, text: str, source: str) -> str:
    _refuse_secret(name, text, source)
    if name == "scope" and re.fullmatch(r"[a-z][a-z0-9._-]*", text) and text not in ("openid", "email", "profile"):
        text = _SCOPE_PREFIX + text
    if name in _CHOICES and text not in _CHOICES[name]:
        raise SettingsError(f"{name} {text!r} from {source} is unknown", "choose one of " + ", ".join(_CHOICES[name]))
    if name in _SHAPES and not matches(name, text):
        raise SettingsError(f"{name} {text!r} from {source} is not valid", _SHAPES[name])
    if name == "location" and is_zone(text):
        raise SettingsError(
            f"location {text!r} from {source} is a Compute Engine zone", f"give its region: {text.rpartition('-')[0]}"
        )
    if not text or "\0" in text:
        raise SettingsError(f"{name} from {source} is empty or has a NUL", f"leave --{name} out to use the default")
    return text


def _duration(name: str, text: str, source: str) -> timedelta:
    try:
        value = parse_duration(text)
    except ValueError as e:
        raise SettingsError(f"{name} from {source}: {e}", "give a duration such as 90m, 1h30m or 45s") from e
    if name == "lifetime" and not timedelta(seconds=1) <= value <= MAX_LIFETIME:
        raise SettingsError(f"lifetime {text!r} from {source} is out of range", "give one between 1s and 12h")
    return value


def _templates(found: Found) -> dict[str, str]:
    templates = {}
    for item in _items(found):
        if looks_secret(item):
            # It would be printed, and remembered with what is printed.
            raise SettingsError(f"set from {found.source} has a token or a key in it", _MISPLACED)
        name, equals, template = item.partition("=")
        if not equals:
            raise SettingsError(
                f"{item!r} from {found.source} is not NAME=TEMPLATE",
                "for example --set LLM_URL={base_url}/chat/completions",
            )
        try:
            check_template(name, template)
        except SettingsError as e:
            raise SettingsError(f"{e.message}, from {found.source}", e.hint) from e
        templates[name] = template
    return templates
