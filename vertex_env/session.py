"""One request from settings to environment: what `export`, `token`, `run` and the others have in common.

Composes the layers below: reads the files, resolves the settings, finds the credentials, and asks for token, target and
environment when they are wanted.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from vertex_env import metadata
from vertex_env.adc import METADATA, Adc, AdcSource, from_metadata, read_adc
from vertex_env.broker import Broker
from vertex_env.config import config_path, gcloud_dir, home, read_config, read_gcloud
from vertex_env.diagnosis import LOGIN
from vertex_env.endpoints import Get, find_endpoint, http_get
from vertex_env.environment import environment
from vertex_env.errors import CredentialsError, SettingsError
from vertex_env.settings import (
    DEFAULTS,
    Found,
    Layer,
    Settings,
    environ_layer,
    first,
    gcloud_layer,
    google_layer,
    options_layer,
    resolve,
)
from vertex_env.store import FileStore, Notes, NullStore, Store, cache_dir
from vertex_env.target import MULTI_REGIONS, Target, api_host, check_url
from vertex_env.tokens import Identity, Now, Token

_REMEMBER_ENDPOINT = timedelta(days=1)
_REMEMBER_NO_METADATA = timedelta(hours=1)


def open_session(
    options: Mapping[str, str | Sequence[str] | None],
    environ: Mapping[str, str],
    now: Now,
    warn: Callable[[str], None],
) -> "Session":
    """Resolve the settings and find the credentials.

    Args:
        options: Settings by field, as `options_layer` takes them.
        environ: The environment.
        now: The clock.
        warn: See `Broker`.

    Raises:
        SettingsError: A setting or a file with settings is wrong.
        CredentialsError: There are no usable credentials.
    """
    layers = [options_layer(options), environ_layer(environ)]
    config = read_config(config_path(environ))
    layers += [config.layer(first(layers, "profile")), google_layer(environ)]
    configuration, properties = read_gcloud(environ)
    layers.append(gcloud_layer(properties, configuration))
    resolve(layers)  # a wrong setting is told before anything is looked for
    notes = Notes(cache_dir(environ, home(environ)))
    adc = _find_adc(layers, config.path, environ, notes)
    layers.append(_adc_layer(adc))
    return Session(resolve(layers), adc, environ, notes, now, warn)


def _find_adc(layers: Sequence[Layer], config: Path, environ: Mapping[str, str], notes: Notes) -> Adc:
    """The named file, else gcloud's well-known one, else the metadata server's account."""
    named = first(layers, "credentials")
    if named is not None:
        return read_adc(_expand(named, config, environ), named.source)
    known = gcloud_dir(environ) / "application_default_credentials.json"
    if known.exists():
        return read_adc(known, "gcloud's well-known place")
    if not metadata.is_ruled_out(environ):
        here = {"boot": _boot_id()}
        certain = metadata.is_certain(environ)
        if certain or notes.load("no-metadata") != here:
            found = metadata.find(environ)
            if found is not None:
                return from_metadata(found)
            if not certain:
                notes.save("no-metadata", here, _REMEMBER_NO_METADATA)
    raise CredentialsError(
        f"there are no Application Default Credentials: no GOOGLE_APPLICATION_CREDENTIALS, no {known}, "
        "no metadata server",
        f"run: {LOGIN}",
    )


def _expand(named: Found, config: Path, environ: Mapping[str, str]) -> Path:
    """The path meant: `~` is home, and in config.toml a relative path starts at that file."""
    text = named.value if isinstance(named.value, str) else named.value[0]
    if text == "~" or text.startswith("~/"):
        return home(environ) / text[2:]
    return config.parent / text if named.source.startswith(str(config)) else Path(text)


def _boot_id() -> str:
    """What tells this machine since its start from another with the same home folder."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _adc_layer(adc: Adc) -> Layer:
    found = {"project": adc.project, "quota-project": adc.quota_project}
    return {name: Found(value, adc.source) for name, value in found.items() if value}


@dataclass
class Session:
    """Settings and credentials, and what follows from them."""

    settings: Settings
    adc: Adc
    environ: Mapping[str, str]
    notes: Notes
    now: Now
    warn: Callable[[str], None]
    _token: Token | None = field(default=None, init=False)

    @cached_property
    def identity(self) -> Identity:
        """Whose token it is.

        Raises:
            SettingsError: A lifetime is asked for where nothing is impersonated.
        """
        s = self.settings
        *delegates, target = s.impersonate.value or (None,)
        if s.lifetime.value and target is None and self.adc.target is None:
            raise SettingsError(
                f"lifetime from {s.lifetime.source} needs a service account to impersonate: only then can it be chosen",
                "add --impersonate ACCOUNT, or leave --lifetime out",
            )
        return Identity(
            kind=self.adc.kind,
            fingerprint=self.adc.fingerprint,
            scopes=s.scope.value,
            universe=self.adc.universe,
            impersonate=target,
            delegates=tuple(d for d in delegates if d),
            lifetime=s.lifetime.value,
            quota_project=s.quota_project.value,
            # An air-gapped cloud wants to know which service the token is for
            # (google-auth 2.62.2 `google/oauth2/gdch_credentials.py`, 2026-11-22).
            audience=_origin(s.base_url.value or self.root) if self.adc.kind == "gdch_service_account" else None,
        )

    @cached_property
    def broker(self) -> Broker:
        """Gives tokens of the identity."""
        s = self.settings
        iam = s.iam_endpoint.value
        source = AdcSource(
            self.adc,
            self.identity,
            self.now,
            default_scopes=s.scope.value == DEFAULTS["scope"],
            iam_endpoint=iam and self._check_url(iam, f"the IAM endpoint from {s.iam_endpoint.source}"),
        )
        store: Store = (
            NullStore() if s.store.value == "none" else FileStore(cache_dir(self.environ, home(self.environ)))
        )
        late = self.adc.kind == METADATA and s.impersonate.value == ()
        return Broker(source, store, self.identity.key, s.min_ttl.value, self.now, self.warn, late)

    def token(self, *, refresh: bool = False) -> Token:
        """A fresh token, the same one throughout unless *refresh*; see `Broker.token`."""
        if self._token is None or refresh:
            self._token = self.broker.token(refresh=refresh)
        return self._token

    @property
    def root(self) -> str:
        """Root of the Vertex AI API for the location, such as `https://europe-west4-aiplatform.googleapis.com`."""
        return self.root_for(self.settings.location.value)

    def root_for(self, location: str) -> str:
        """Root of the Vertex AI API for *location*, unless gcloud's override names one for all.

        Raises:
            SettingsError: A token must not be sent to the override.
        """
        override = self.settings.api_endpoint
        if override.value is not None:
            return self._check_url(override.value, f"the API endpoint from {override.source}")
        return f"https://{api_host(location, self.adc.universe)}"

    @property
    def project(self) -> str:
        """The project, which has to be set.

        Raises:
            SettingsError: It is not.
        """
        if self.settings.project.value is None:
            raise SettingsError(
                "no project is set: not by --project, VERTEX_ENV_PROJECT, a profile, GOOGLE_CLOUD_PROJECT or gcloud",
                "add --project ID, or run: gcloud config set project ID",
            )
        return self.settings.project.value

    def target(self, *, refresh: bool = False) -> Target:
        """Where requests go. For a self-deployed endpoint this may ask Google, and remembers the answer for a day.

        Args:
            refresh: Ask again.

        Raises:
            VertexEnvError: The endpoint could not be looked up, or as for `_shared_target`.
        """
        shared, wanted = self._shared_target(), self.settings.endpoint.value
        if wanted is None or shared.verbatim is not None:
            return shared
        found, host = self._look_up(shared, wanted, refresh=refresh)
        origin = (
            self._check_url(f"https://{host}", f"the dedicated host of endpoint {found}") if host else shared.origin
        )
        return replace(shared, origin=origin, endpoint=found)

    def _shared_target(self) -> Target:
        """The target but for what only Google knows of a self-deployed endpoint.

        Raises:
            SettingsError: The settings contradict each other or lack something.
        """
        s = self.settings
        if s.base_url.value is not None:
            what = f"the base URL from {s.base_url.source}"
            url = self._check_url(s.base_url.value, what)
            if url.endswith("/completions"):
                raise SettingsError(f"{what} ends in an API's path", "leave /chat/completions out: clients add it")
            return Target(s.project.value or "", s.location.value, _origin(url), verbatim=url)
        if s.endpoint.value is None:
            self._check_model()
        elif s.api.value != "chat":
            raise SettingsError("a self-deployed endpoint has the chat API only", "leave --api or --endpoint out")
        elif s.location.value in ("global", *MULTI_REGIONS):
            raise SettingsError(
                f"endpoint {s.endpoint} is in some region, but location is {s.location}",
                "add --location REGION; vertex-env endpoints --all-locations shows which",
            )
        return Target(self.project, s.location.value, self.root, s.api.value, s.api_version.value)

    def environment(self, *, refresh: bool = False) -> dict[str, str | None]:
        """The variables to set and unset."""
        s = self.settings
        self._shared_target()  # what is wrong with the settings is told before a token is minted
        token = self.token(refresh=refresh)
        return environment(
            self.target(refresh=refresh),
            token,
            model=s.model.value,
            clients=s.client.value,
            extra=s.set.value,
            environ=self.environ,
        )

    def get(self) -> Get:
        """How to ask the Vertex AI API."""
        return http_get(self.token().value, self.adc.who, self.settings.quota_project.value)

    def _look_up(self, shared: Target, wanted: str, *, refresh: bool) -> tuple[str, str | None]:
        """ID and dedicated host of the endpoint that *wanted* means."""
        question = f"{shared.origin}\n{shared.parent}\n{wanted}"
        name = "endpoint-" + hashlib.sha256(question.encode()).hexdigest()
        note = None if refresh else self.notes.load(name)
        if note is None:
            # The API version of requests says nothing about this one, which is always v1.
            found = find_endpoint(self.get(), f"{shared.origin}/v1", shared.parent, wanted)
            note = {"id": found.id, "host": found.host}
            self.notes.save(name, note, _REMEMBER_ENDPOINT)
        return note["id"], note["host"]

    def _check_model(self) -> None:
        model = self.settings.model
        if model.value is not None and self.settings.api.value == "chat" and "/" not in model.value:
            raise SettingsError(f"model {model} has no publisher", f"did you mean google/{model.value}?")

    def _check_url(self, url: str, what: str) -> str:
        return check_url(url, what=what, allowed=self.settings.allow_host.value, universe=self.adc.universe)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
