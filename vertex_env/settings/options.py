"""The settings, one row each.

The command line, the variables, config.toml and the Python API are made from the rows.
To add a setting, add a row here and use it. Then run `python -m tools.keywords` and
`python -m tools.completions`, which generate files from the rows.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from vertex_env.settings.kinds import (
    Chain,
    Choice,
    Duration,
    File,
    Found,
    Kind,
    Listed,
    Templates,
    Text,
)
from vertex_env.vertex.target import LOCATION, Api, is_zone
from vertex_env.vertex.variables import CLIENTS

T = TypeVar("T")

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_SCOPE_PREFIX = "https://www.googleapis.com/auth/"

MAX_LIFETIME = timedelta(hours=12)
"""Longest lifetime of an impersonated account's token.

https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
(2026-11-22).
"""


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A checked value and its source."""

    value: T
    source: str = "default"

    def __str__(self) -> str:
        """The text for messages: `'my-project' from GOOGLE_CLOUD_PROJECT`."""
        return (
            f"{self.value!r} from {self.source}"
            if self.source != "default"
            else f"{self.value!r} (default)"
        )


class Option(Generic[T]):
    """One setting: a row of the table; as an attribute of a `Resolved`, its value and source.

    Args:
        kind: Kind of its values.
        default: Its value if no layer sets it.
        metavar: Placeholder for its value in the help; by default the placeholder of
            the kind.
        help: Description in one line.
        google: Google's own variables for it; the first that is set wins.
        gcloud: gcloud's property for it, such as `core/project`.
        internal: Whether only Google's variables and gcloud's properties set it.
        in_profile: Whether it is a key of a profile in config.toml.
    """

    name: str
    """Name such as `quota-project`.

    It is the long option without dashes, and the key in config.toml. In capital letters
    and with underscores, after `VERTEX_ENV_`, it is the variable.
    """
    field: str
    """Name of the Python field, such as `quota_project`."""

    def __init__(  # noqa: PLR0913
        self,
        kind: Kind[T],
        default: T,
        *,
        help: str,  # noqa: A002 -- argparse and Click call it help, too
        metavar: str = "",
        google: tuple[str, ...] = (),
        gcloud: str | None = None,
        internal: bool = False,
        in_profile: bool = True,
    ) -> None:
        self.kind = kind
        self.default = default
        self.metavar = metavar or kind.metavar
        self.help = help
        self.google = google
        self.gcloud = gcloud
        self.internal = internal
        self.in_profile = in_profile and not internal

    def __set_name__(self, owner: type, name: str) -> None:
        self.field = name
        self.name = name.replace("_", "-")

    @overload
    def __get__(self, settings: None, owner: type) -> "Option[T]": ...
    @overload
    def __get__(self, settings: "Resolved", owner: type) -> Setting[T]: ...
    def __get__(self, settings: "Resolved | None", owner: type) -> "Option[T] | Setting[T]":
        return self if settings is None else settings.values[self.field]

    @property
    def variable(self) -> str:
        """Name of the variable, such as `VERTEX_ENV_QUOTA_PROJECT`."""
        return "VERTEX_ENV_" + self.field.upper()

    @property
    def many(self) -> bool:
        """Whether it is a list: the option repeats."""
        return self.kind.many

    def resolve(self, found: Found | None) -> Setting[T]:
        """Parse and check *found*; without it, return the default.

        Raises:
            SettingsError: The value is not of the setting's kind.
        """
        return (
            Setting(self.default)
            if found is None
            else Setting(self.kind.parse(self.name, found), found.source)
        )


def _zone(location: str) -> tuple[str, str] | None:
    """Problem and hint if *location* is a zone, such as `europe-west4-a`; else None."""
    if not is_zone(location):
        return None
    return "is a Compute Engine zone", f"give its region: {location.rpartition('-')[0]}"


def _full_scope(text: str) -> str:
    """Complete a short scope such as `cloud-platform` with the prefix of Google's scopes."""
    is_short = re.fullmatch(r"[a-z][a-z0-9._-]*", text) is not None
    return _SCOPE_PREFIX + text if is_short and text not in ("openid", "email", "profile") else text


# A project ID has 6 to 30 characters. An older "example.com:" prefix is still valid,
# and so is the project number
# (https://cloud.google.com/resource-manager/docs/creating-managing-projects,
# 2026-11-22).
_PROJECT = Text(
    r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]{1,19}",
    "a project ID looks like my-project-123; `gcloud projects list` shows yours",
)


class Resolved:
    """All settings, each checked alone; the code that uses them checks combinations.

    The attributes are the rows. On the class, `Resolved.scope` is the `Option`. On an
    object, `settings.scope` is its `Setting`, with the type of the value.

    Args:
        values: Settings by field, as `resolve` makes them.
    """

    __slots__ = ("values",)

    # Google's names and their order come from google-auth 2.62.2 `environment_vars.py`.
    # google-genai 3.4.0 and openai 3.54.0 read GOOGLE_CLOUD_LOCATION. A variable
    # CLOUDSDK_SECTION_PROPERTY stands for a property of gcloud
    # (https://cloud.google.com/sdk/docs/properties#setting_properties_using_environment_variables).
    # All of this as of 2026-11-22.
    profile = Option(
        Text(
            r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?",
            "profiles are named in config.toml as [profile.NAME]",
            completes="profiles",
        ),
        None,
        metavar="NAME",
        help="Profile in config.toml to start from.",
        in_profile=False,
    )
    project = Option(
        _PROJECT,
        None,
        metavar="ID",
        help="Google Cloud project.",
        google=("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"),
        gcloud="core/project",
    )
    location = Option(
        Text(LOCATION, "a location looks like global, us, eu or europe-west4", wrong=_zone),
        "global",
        metavar="NAME",
        help="Vertex AI location: global, us, eu or a region. [default: global]",
        google=("GOOGLE_CLOUD_LOCATION", "CLOUDSDK_AI_REGION"),
        gcloud="ai/region",
    )
    endpoint = Option(
        # Google allows up to 128 characters of any kind. Characters that are syntax in
        # some place are refused here.
        Text(
            r"\w(?:[\w .()+:-]{0,126}[\w)])?",
            "give the endpoint's ID or its display name; "
            "`vertex-env endpoints --all-locations` lists them",
            flags=0,
        ),
        None,
        metavar="ID|NAME",
        help="Self-deployed endpoint, by ID or display name.",
    )
    model = Option(
        Text(
            r"[A-Za-z0-9][\w.:-]*(?:/[A-Za-z0-9][\w.:-]*)*",
            "a model looks like google/gemini-2.5-flash or meta/llama-3.3-70b-instruct-maas",
        ),
        None,
        metavar="PUBLISHER/MODEL",
        help="Model for OPENAI_MODEL, such as google/gemini-2.5-flash.",
    )
    api = Option(
        Choice[Api]("chat", "responses"), "chat", help="OpenAI API to point at. [default: chat]"
    )
    api_version = Option(
        Text(r"v[0-9]{1,2}(?:(?:alpha|beta)[0-9]{1,2})?", "a version looks like v1 or v1beta1"),
        "v1",
        metavar="VERSION",
        help="Version of the Vertex AI API. [default: v1]",
    )
    base_url = Option(
        Text(),
        None,
        metavar="URL",
        help="Base URL to use as it is, instead of the one for project, location and endpoint.",
    )
    allow_host = Option(
        Listed(
            Text(
                r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]",
                "give a host name alone, such as llm.example.com",
            )
        ),
        (),
        metavar="HOST,…",
        help="Host besides Google's that may get the access token.",
    )
    credentials = Option(File(), None, help="ADC file.", google=("GOOGLE_APPLICATION_CREDENTIALS",))
    impersonate = Option(
        Chain(
            Text(
                r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?@[a-z0-9-]+(?:\.[a-z0-9-]+)+|[0-9]{1,30}",
                "give a service account such as robot@my-project.iam.gserviceaccount.com; "
                "delegates come before it",
            )
        ),
        (),
        metavar="ACCOUNT",
        help="Service account to impersonate; with delegates: D1,D2,ACCOUNT.",
    )
    """Delegates, then the target principal; empty for no impersonation."""
    lifetime = Option(
        Duration(timedelta(seconds=1), MAX_LIFETIME),
        None,
        help="Lifetime to ask for when impersonating, up to 12h. [default: 1h]",
    )
    scope = Option(
        Listed(
            Text(
                r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._~/-]+|openid|email|profile",
                "a scope looks like https://www.googleapis.com/auth/cloud-platform, "
                "or cloud-platform for short",
                expand=_full_scope,
            )
        ),
        (CLOUD_PLATFORM,),
        metavar="SCOPE,…",
        help="OAuth scope. [default: cloud-platform]",
    )
    quota_project = Option(
        _PROJECT,
        None,
        metavar="ID",
        help="Project billed for quota.",
        google=("GOOGLE_CLOUD_QUOTA_PROJECT",),
    )
    store = Option(
        Choice("file", "keyring", "none"),
        "file",
        help="Where tokens are kept between calls. [default: file]",
    )
    min_ttl = Option(
        Duration(),
        timedelta(minutes=5),
        help="Least time a token must have left; half its life at most. [default: 5m]",
    )
    mint_timeout = Option(
        Duration(timedelta(seconds=1), timedelta(minutes=5)),
        timedelta(seconds=10),
        help="Longest that minting a token or asking for an endpoint may take. [default: 10s]",
    )
    client = Option(
        Listed(Choice(*CLIENTS)),
        (),
        metavar="NAME,…",
        help=f"Also set the names that a tool reads: {', '.join(CLIENTS)}.",
    )
    set = Option(
        Templates(),
        {},
        metavar="NAME=TEMPLATE",
        help="Also set NAME; {token}, {base_url}, {host}, {path}, … are filled in.",
    )
    api_endpoint = Option(
        Text(),
        None,
        metavar="URL",
        help="Root of the Vertex AI API.",
        google=("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM",),
        gcloud="api_endpoint_overrides/aiplatform",
        internal=True,
    )
    iam_endpoint = Option(
        Text(),
        None,
        metavar="URL",
        help="Root of the IAM Service Account Credentials API.",
        google=("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS",),
        gcloud="api_endpoint_overrides/iamcredentials",
        internal=True,
    )

    def __init__(self, **values: Setting[Any]) -> None:
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resolved) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]  # some values are mappings

    def __repr__(self) -> str:
        return f"Resolved({', '.join(f'{name}={value}' for name, value in self.values.items())})"


OPTIONS: tuple[Option[Any], ...] = tuple(
    row for row in vars(Resolved).values() if isinstance(row, Option)
)
"""The rows, in the order of the help."""
