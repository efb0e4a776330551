"""One request from settings to environment: what `export`, `token`, `run` and the others have in common.

Composes the layers below: reads the files, resolves the settings, finds the credentials, and asks for token, target and
environment when they are wanted.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vertex_env import freshness
from vertex_env.cache import answers as warm
from vertex_env.credentials.mint import AdcSource
from vertex_env.credentials.read import METADATA, Adc, from_metadata, read_adc
from vertex_env.errors import CredentialsError, SettingsError, UnavailableError
from vertex_env.formats.snapshot import write_snapshot
from vertex_env.settings.config import (
    cache_folder,
    config_path,
    gcloud_dir,
    gcloud_files,
    home,
    no_home,
    read_config,
    read_gcloud,
)
from vertex_env.settings.options import (
    DEFAULTS,
    OPTIONS,
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
from vertex_env.tokens.broker import Broker
from vertex_env.tokens.store import FileStore, Notes, NullStore, Store, write_private
from vertex_env.tokens.token import Identity, Now, Token
from vertex_env.vertex.refusals import LOGIN
from vertex_env.vertex.target import MULTI_REGIONS, Target, api_host, check_url, matches
from vertex_env.vertex.variables import TRACING, environment, judged, to_unset

if TYPE_CHECKING:
    from vertex_env.vertex.endpoints import Get

_REMEMBER_ENDPOINT = timedelta(days=1)
_REMEMBER_METADATA = timedelta(minutes=5)
"""How long it is taken for granted that a machine's account is the same: a pod's can be bound anew."""
_REMEMBER_NO_METADATA = timedelta(minutes=10)
_NAP_S = 20.0
_SHELLS_MIN_TTL = timedelta(minutes=5)
"""Shells load a token until it is due; who wants more of it has Python look."""


class Watched(Mapping[str, str]):
    """An environment that knows which variables were looked at, set or not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.names: dict[str, None] = {}
        self.judged: dict[str, str] = {}
        """Variables of which only `is_kept` was looked at, to its rule."""

    def __getitem__(self, name: str) -> str:
        self.names[name] = None
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        raise TypeError("whoever goes through all variables depends on all of them")

    def __len__(self) -> int:
        return len(self._environ)

    @property
    def unwatched(self) -> Mapping[str, str]:
        """The environment itself, for what does not change an answer, such as how a token is minted."""
        return self._environ

    def keeps(self, name: str, rule: str) -> bool:
        """Whether the value of *name* is the user's own (`warm.is_kept`); that is all that is looked at."""
        self.judged[name] = rule
        return warm.is_kept(rule, self._environ.get(name, ""))


def open_session(  # noqa: PLR0913
    options: Mapping[str, str | Sequence[str] | None],
    environ: Mapping[str, str],
    now: Now,
    warn: Callable[[str], None],
    behind: Callable[[], None] | None = None,
    looked_at: dict[Path, str] | None = None,
    *,
    again: str = "",
    anonymous: bool = False,
) -> "Session":
    """Resolve the settings and find the credentials.

    Args:
        options: Settings by field, as `options_layer` takes them.
        environ: The environment.
        now: The clock.
        warn: See `Broker`.
        behind: Starts a refresh in a process of its own; not called more than once a minute.
        looked_at: Gets the files that were looked at, also when that fails; see `Session`.
        again: Why the credentials have to be read again later; see `read_adc`.
        anonymous: Do without credentials where there are none and the base URL does not need them.

    Raises:
        SettingsError: A setting or a file with settings is wrong.
        CredentialsError: There are no usable credentials.
    """
    started = time.time()
    environ = environ if isinstance(environ, Watched) else Watched(environ)
    layers = [options_layer(options), environ_layer(environ)]
    looked_at = {} if looked_at is None else looked_at
    for path in (config_path(environ), *gcloud_files(environ)[1], _well_known(environ)):
        if path is not None:
            looked_at[path] = warm.look(str(path))
    config = read_config(config_path(environ))
    layers += [config.layer(first(layers, "profile")), google_layer(environ)]
    configuration, properties = read_gcloud(environ)
    layers.append(gcloud_layer(properties, configuration))
    resolve(layers)  # a wrong setting is told before anything is looked for
    folder, unstored = cache_folder(environ)
    if unstored is not None and (chosen := first(layers, "store")) is not None and chosen.value == "none":
        unstored = None
    if unstored is not None:
        layers.insert(0, {"store": Found("none", "no absolute folder to store in")})
    try:
        adc = _find_adc(layers, config.path, environ, Notes(folder), looked_at, again)
    except (CredentialsError, UnavailableError):
        if not (anonymous and _says_where(layers) and not _is_there(layers, config.path, environ)):
            raise
        adc = Adc("anonymous", "nowhere", "")
    looked_at |= {path: warm.look(str(path)) for path in adc.files}
    layers.append(_adc_layer(adc))
    if adc.is_pipe:
        # Nothing could tell later whose token it is, nor renew it.
        layers.insert(0, {"store": Found("none", f"{adc.source}, a pipe")})
    session = Session(resolve(layers), adc, environ, folder, now, warn, behind, started, looked_at, unstored=unstored)
    if adc.kind == METADATA:
        session.facts_until = started + _REMEMBER_METADATA.total_seconds()
    return session


def _says_where(layers: Sequence[Layer]) -> bool:
    """Whether the settings alone have the base URL; an endpoint's host is looked up at Google."""
    if first(layers, "base-url") is not None:
        return True
    return first(layers, "project") is not None and first(layers, "endpoint") is None


def _is_there(layers: Sequence[Layer], config: Path | None, environ: Mapping[str, str]) -> bool:
    """Whether there is a credentials file, which may name another universe."""
    named = first(layers, "credentials")
    path = _well_known(environ) if named is None else _expand(named, config, environ)
    return path is not None and os.path.lexists(path)


def _find_adc(
    layers: Sequence[Layer],
    config: Path | None,
    environ: Mapping[str, str],
    notes: Notes,
    looked_at: dict[Path, str],
    again: str,
) -> Adc:
    """The named file, else gcloud's well-known one, else the metadata server's account."""
    named = first(layers, "credentials")
    if named is not None:
        path = _expand(named, config, environ)
        looked_at[path] = warm.look(str(path))
        return read_adc(path, named.source, environ, again)
    known = _well_known(environ)
    if known is not None and os.path.exists(known):  # noqa: PTH110 -- Path.exists raises where the folder may not be entered
        return read_adc(known, "gcloud's well-known place", environ, again)
    from vertex_env.credentials import metadata

    searched = f"no GOOGLE_APPLICATION_CREDENTIALS, no {known or 'home folder'}"
    server, hint = "no metadata server", f"run: {LOGIN}"
    if known is None:
        hint = f"{no_home(environ)}: set HOME and run {LOGIN}, or add --credentials FILE"
    if not metadata.is_ruled_out(environ):
        if metadata.is_credible(environ):
            found = _ask_metadata(environ, notes)
            if found is not None:
                return found
        else:
            server = "and nothing says that this machine is Google's and has a metadata server"
            hint += f"; on a machine of Google's: {metadata.NAME_IT}"
    raise CredentialsError(f"there are no Application Default Credentials: {searched}, {server}", hint)


def _ask_metadata(environ: Mapping[str, str], notes: Notes) -> Adc | None:
    """The metadata server's account; None where there is no such server, which is remembered."""
    from vertex_env.credentials import metadata

    here = {"machine": warm.machine()}
    certain = metadata.is_certain(environ)
    note = notes.load("no-metadata")
    if not certain and note is not None and note[0] == here:
        return None
    found = metadata.find(environ)
    if found is not None:
        return from_metadata(found)
    if certain:
        raise UnavailableError(
            "the metadata server does not answer, or has no service account for this machine",
            "give the machine a service account, check GCE_METADATA_HOST, or run: " + LOGIN,
        )
    notes.save("no-metadata", here, _REMEMBER_NO_METADATA)
    return None


def _well_known(environ: Mapping[str, str]) -> Path | None:
    folder = gcloud_dir(environ)
    return folder and folder / "application_default_credentials.json"


def _expand(named: Found, config: Path | None, environ: Mapping[str, str]) -> Path:
    """The path meant: `~` is home, and in config.toml a relative path starts at that file.

    Raises:
        SettingsError: There is no home.
    """
    text = named.value if isinstance(named.value, str) else named.value[0]
    if text == "~" or text.startswith("~/"):
        base = home(environ)
        if base is None:
            why = f"credentials {text!r} from {named.source} are in no home folder: {no_home(environ)}"
            raise SettingsError(why, "name the file by its absolute path")
        return base / text[2:]
    return config.parent / text if config and named.source.startswith(str(config)) else Path(text)


def _adc_layer(adc: Adc) -> Layer:
    found = {"project": adc.project, "quota-project": adc.quota_project}
    return {name: Found(value, adc.source) for name, value in found.items() if value}


@dataclass
class Session:
    """Settings and credentials, and what follows from them."""

    settings: Settings
    adc: Adc
    environ: Watched
    folder: Path | None
    """Where tokens, answers and facts are kept; None where that would be a relative path."""
    now: Now
    warn: Callable[[str], None]
    behind: Callable[[], None] | None
    started: float
    """When the first of them was read, in epoch seconds."""
    looked_at: dict[Path, str]
    """Files that the settings and credentials depend on, there or not, and what they were like (`warm.look`)."""
    facts_until: float = 0.0
    """When the first of the remembered facts in use has to be looked up anew, in epoch seconds; 0 without any."""
    unstored: str | None = None
    """Why nothing is stored, where that was not the user's choice."""
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
            self.environ.unwatched,
            default_scopes=s.scope.value == DEFAULTS["scope"],
            iam_endpoint=iam and self._check_url(iam, f"the IAM endpoint from {s.iam_endpoint.source}"),
        )
        late = self.adc.kind == METADATA and s.impersonate.value == ()
        key = self.identity.key

        def behind() -> None:
            if self.behind is None or self.folder is None:
                return
            if warm.may_refresh(str(self.folder), key, self.now().timestamp()):
                self.behind()

        return Broker(source, self.store, key, s.min_ttl.value, self.now, self.warn, late, behind)

    @cached_property
    def store(self) -> Store:
        """Where tokens are kept."""
        kind = self.settings.store.value
        if kind == "none" or self.folder is None:
            return NullStore(self.unstored)
        if kind == "keyring":
            from vertex_env.tokens.keychain import KeyringStore

            return KeyringStore(self.folder)
        return FileStore(self.folder)

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

    def report(self) -> dict[str, Any]:
        """What `status` tells, without asking Google and without the token."""
        settings = {option.name: getattr(self.settings, option.field) for option in OPTIONS if not option.internal}
        try:
            shared = self._shared_target()
            url = (
                shared.base_url if self.settings.endpoint.value is None else f"{shared.base_url} (or a dedicated host)"
            )
        except SettingsError as e:
            url = f"none: {e.message}"
        stored, now, problem = None, self.now(), self.store.problem()
        if problem is None:
            stored = self.store.load(self.identity.key)
        return {
            "settings": {name: {"value": s.value, "source": s.source} for name, s in settings.items()},
            "identity": {
                "kind": self.adc.kind,
                "principal": self.identity.impersonate
                or self.adc.target
                or self.adc.who.principal
                or f"{self.adc.kind.replace('_', ' ')} credentials",
                "credentials": self.adc.source,
                "universe": self.adc.universe,
            },
            "base_url": url,
            "token": stored
            and {
                "expiry": warm.rfc3339(stored.expiry.timestamp()),
                "expires_in": int(stored.remaining(now).total_seconds()),
                "fresh": stored.is_fresh(now, self.broker.min_left),
            },
            "store": {
                "kind": self.settings.store.value,
                "folder": self.folder and str(self.folder),
                "problem": problem,
            },
            **self._in_the_way(_origin(url)),
        }

    def _in_the_way(self, origin: str) -> dict[str, list[str]]:
        """Names that are set and have clients talk to another host than *origin*: `unset` by us, or `kept`."""
        environ, clients, extra = self.environ, self.settings.client.value, self.settings.set.value
        kept = self._kept()
        # Harmless are what `export --client` has set in this shell, headers, and what tracing takes for a yes.
        foreign = [
            name
            for name in kept
            if name in environ and not environ[name].startswith(origin) and name != "OPENAI_CUSTOM_HEADERS"
            if name != TRACING or environ[name].lower() != "true"
        ]
        return {
            "unset": [name for name in to_unset(clients, extra, kept) if name in environ],
            "kept": foreign,
        }

    def _kept(self) -> list[str]:
        """Names whose value is the user's own and stays."""
        rules = judged(self.settings.client.value, self.settings.set.value)
        return [name for name, rule in rules.items() if self.environ.keeps(name, rule)]

    def environment(self, *, refresh: bool = False) -> dict[str, str | None]:
        """The variables to set and unset."""
        self._shared_target()  # what is wrong with the settings is told before a token is minted
        token = self.token(refresh=refresh)
        return self.environment_for(token, self.target(refresh=refresh))

    def environment_for(self, token: Token, target: Target) -> dict[str, str | None]:
        """The variables for *token* and *target*."""
        s = self.settings
        return environment(
            target,
            token,
            model=s.model.value,
            clients=s.client.value,
            extra=s.set.value,
            kept=self._kept(),
        )

    def remember(
        self,
        args: Sequence[str],
        question: str,
        render: Callable[[Token], str],
        now: datetime,
        *,
        refreshes: bool = True,
    ) -> None:
        """Keep what was printed, so that the warm path can print it again.

        Args:
            args: The arguments.
            question: As `warm.ask` put it for them at the beginning; if that is another now, nothing is kept.
            render: What is printed for a token; it is called with one that stands for all.
            now: When it was printed.
            refreshes: Whether the warm path may start a refresh behind the user's back.
        """
        if question != warm.ask(args, self.environ.unwatched):
            return
        if self.folder is None or self.settings.store.value != "file":
            return
        if self.store.load(self.identity.key) != self._token:
            return
        if not all(path.is_absolute() for path in self.looked_at):
            return  # it depends on the folder that we are in
        if any(_changed_since(p, self.started) or warm.look(str(p)) != look for p, look in self.looked_at.items()):
            return  # perhaps after we had read it
        stand_in = self._stand_in()
        expiry = int(stand_in.expiry.timestamp())
        due = expiry - int(freshness.EARLY)
        answer = warm.Answer(
            key=self.identity.key,
            min_ttl=self.broker.min_left.total_seconds(),
            refreshes=refreshes and not self.broker.renews_late,
            names=[*self.environ.names, *(f"{rule} {name}" for name, rule in self.environ.judged.items())],
            files=[str(path) for path in self.looked_at],
            until=self.facts_until,
            text=render(stand_in),
            marks=(stand_in.value, str(expiry), str(due), str(int(expiry - now.timestamp())), warm.rfc3339(expiry)),
        )
        data = warm.format_answer(answer, self.environ)
        if data is not None and len(data) <= warm.MAX_BYTES:
            write_private(Path(warm.answer_path(str(self.folder), question)), data)

    @property
    def stamp(self) -> Path | None:
        """The file that is replaced whenever the stored token changes; None where none is stored."""
        if self.folder is None or self.settings.store.value == "none":
            return None
        return Path(warm.stamp_path(str(self.folder), self.identity.key))

    def stamp_of(self, token: Token) -> Path | None:
        """The same, if it is about *token* or a later one; None where that could not be stored."""
        if self.stamp is None:
            return None
        try:
            _, expires, _ = (warm.read_private(str(self.stamp)) or b"").split()
            return self.stamp if int(expires) >= int(token.expiry.timestamp()) else None
        except ValueError:
            return None

    def keep_fresh(self) -> None:
        """Wait until the stored token is due and mint the next; at once where somebody waits already, or none is."""
        with self.store.keeper(self.identity.key) as alone:
            stored = self.store.load(self.identity.key)
            if not alone or stored is None:
                return
            # In short naps: the time that a laptop sleeps does not count for timers.
            while (left := freshness.due(*stored.seconds) - self.now().timestamp()) > 0:
                time.sleep(min(left, _NAP_S))
            # Due is not yet stale where min-ttl is short; and nothing is to be done where somebody else has done it.
            self.token(refresh=self.store.load(self.identity.key) == stored)

    def snapshot(self) -> bool:
        """Keep what shells load at their start; False where there cannot be such a thing. See `write_snapshot`."""
        stand_in = self._stand_in()
        if (
            self.folder is None
            or self.settings.store.value != "file"
            or self.adc.of_machine  # shells cannot tell one machine from another
            or self.settings.min_ttl.value > _SHELLS_MIN_TTL
            or not all(path.is_absolute() for path in self.looked_at)
        ):
            return False
        env = self.environment_for(stand_in, self.target())
        return write_snapshot(
            self.folder,
            self.environ.get("VERTEX_ENV_PROFILE", ""),
            key=self.identity.key,
            names=tuple(self.environ.names),  # not the live table, which grows as values are compared
            judged=self.environ.judged,
            files=self.looked_at,
            environ=self.environ,
            until=self.facts_until,
            env=env,
            stand_in=stand_in.value,
        )

    @staticmethod
    def _stand_in() -> Token:
        """One of random letters, that ends at a random instant in nearly 8,000 years: these occur nowhere else."""
        expiry = 250_000_000_000 + int.from_bytes(os.urandom(4), "big") // 2
        return Token(os.urandom(16).hex(), _instant(expiry), _instant(expiry - 3600))

    def get(self) -> "Get":
        """How to ask the Vertex AI API."""
        from vertex_env.vertex.endpoints import http_get

        who = (
            self.adc.who
            if self.identity.impersonate is None
            else replace(self.adc.who, target=self.identity.impersonate)
        )
        return http_get(self.token().value, who, self.settings.quota_project.value)

    def _look_up(self, shared: Target, wanted: str, *, refresh: bool) -> tuple[str, str | None]:
        """ID and dedicated host of the endpoint that *wanted* means."""
        question = f"{shared.origin}\n{shared.parent}\n{wanted}"
        name = "endpoint-" + hashlib.sha256(question.encode()).hexdigest()
        notes = Notes(self.folder)
        if (path := notes.path(name)) is not None:
            self.looked_at.setdefault(path, warm.look(str(path)))
        note = None if refresh else notes.load(name)
        if note is None or not self._is_endpoint(note[0]):
            from vertex_env.vertex.endpoints import find_endpoint

            # The API version of requests says nothing about this one, which is always v1.
            found = find_endpoint(self.get(), f"{shared.origin}/v1", shared.parent, wanted)
            notes.save(name, {"id": found.id, "host": found.host}, _REMEMBER_ENDPOINT)
            return found.id, found.host
        fact, until = note
        self.facts_until = min(until, self.facts_until or until)
        return str(fact["id"]), fact["host"]

    def _is_endpoint(self, fact: Mapping[str, object]) -> bool:
        """Whether *fact*, from a file, has an endpoint's ID, and no dedicated host or one that may get a token."""
        host = fact.get("host", "")
        if not matches("endpoint ID", str(fact.get("id"))):
            return False
        if not isinstance(host, str):
            return host is None
        try:
            self._check_url(f"https://{host}", "its dedicated host")
        except SettingsError:
            return False
        return matches("host", host)

    def _check_model(self) -> None:
        model = self.settings.model
        if model.value is None:
            return
        publisher, slash, _ = model.value.partition("/")
        if self.settings.api.value == "chat" and not slash:
            raise SettingsError(f"model {model} has no publisher", f"did you mean google/{model.value}?")
        if self.settings.api.value == "responses" and slash and publisher != "openai":
            # https://github.com/openai/openai-python `src/openai/providers/vertex.py`, 2026-11-24
            raise SettingsError(
                f"model {model} has no Responses API: on Vertex AI only OpenAI's own models have it",
                "--api chat serves this model",
            )

    def _check_url(self, url: str, what: str) -> str:
        return check_url(url, what=what, allowed=self.settings.allow_host.value, universe=self.adc.universe)


def _changed_since(path: Path, instant: float) -> bool:
    """Whether the file may have been changed at *instant* or later, as far as its time stamp can tell.

    The kernel's clock for time stamps is a few ms coarse; some file systems keep whole seconds, or every second one.
    """
    try:
        status = path.stat()
    except OSError:
        return False
    slack = 2.0 if status.st_ctime_ns % 1_000_000_000 == 0 else 0.02
    return status.st_ctime > instant - slack


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
