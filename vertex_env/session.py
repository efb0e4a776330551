"""One request, from settings to environment, as `export`, `token`, `run` and others need it.

It connects the lower packages and enters each of them once: settings, credentials,
tokens, target, environment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vertex_env.cache import background, private
from vertex_env.cache.notes import Notes
from vertex_env.cache.snapshots import Kept
from vertex_env.credentials.find import find_adc, layers_of
from vertex_env.credentials.identity import identify
from vertex_env.credentials.mint import AdcSource
from vertex_env.credentials.read import METADATA, Adc
from vertex_env.remember import Memory
from vertex_env.settings.gather import gather
from vertex_env.settings.inputs import Inputs
from vertex_env.settings.options import Resolved
from vertex_env.settings.resolve import resolve
from vertex_env.tokens.broker import Broker
from vertex_env.tokens.keeper import is_about, keep_fresh
from vertex_env.tokens.store import FileStore, Store
from vertex_env.tokens.token import Identity, Now, Token
from vertex_env.vertex.target import Target
from vertex_env.vertex.urls import Urls
from vertex_env.vertex.variables import environment, judged

if TYPE_CHECKING:
    from vertex_env.vertex.endpoints import Get

_SHELLS_MIN_TTL = timedelta(minutes=5)
"""Largest `min-ttl` for which a snapshot is written.

A shell uses the token of a snapshot until the token is due. If a user requires more
time left, Python has to check the token.
"""


def open_session(  # noqa: PLR0913
    options: Mapping[str, str | Sequence[str] | None],
    inputs: Inputs,
    now: Now,
    warn: Callable[[str], None],
    background_refresh: Callable[[], None] | None = None,
    *,
    again: str = "",
    anonymous: bool = False,
) -> "Session":
    """Resolve the settings and find the credentials.

    Args:
        options: Settings by field, as `options_layer` takes them.
        inputs: The environment. It records the variables and files that were read, also
            on failure.
        now: The clock.
        warn: See `Broker`.
        background_refresh: Starts a refresh in a process of its own; called at most
            once a minute.
        again: Why the credentials have to be read again later; see `read_adc`.
        anonymous: Go on without credentials if there are none and the base URL does not
            need them.

    Raises:
        SettingsError: A setting is wrong, or a file with settings is.
        CredentialsError: There are no usable credentials.
    """
    gathered = gather(options, inputs)
    adc = find_adc(gathered, inputs, again, anonymous=anonymous)
    above, below = layers_of(adc)
    settings = resolve([above, *gathered.layers, below])
    return Session(
        settings,
        adc,
        inputs,
        gathered.folder,
        now,
        warn,
        background_refresh,
        unstored=gathered.unstored,
    )


@dataclass
class Session:
    """Settings, credentials, and the values that follow from them."""

    settings: Resolved
    adc: Adc
    inputs: Inputs
    """The variables and files that an answer depends on."""
    folder: Path | None
    """Folder of the tokens, answers and facts; None if its path would be relative."""
    now: Now
    warn: Callable[[str], None]
    background_refresh: Callable[[], None] | None
    unstored: str | None = None
    """Why nothing is stored, if the user did not choose that."""
    _token: Token | None = field(default=None, init=False)

    @cached_property
    def urls(self) -> Urls:
        """The URLs to which a token may be sent."""
        return Urls(self.settings, self.adc.universe)

    @cached_property
    def identity(self) -> Identity:
        """The identity that the token speaks for; see `identify`."""
        return identify(self.settings, self.adc, self.urls)

    @property
    def _mint_s(self) -> float:
        """Time limit of one mint and of one question to the API, in seconds."""
        return self.settings.mint_timeout.value.total_seconds()

    @cached_property
    def store(self) -> Store | None:
        """The store of tokens; None if none are stored."""
        kind = self.settings.store.value
        if kind == "none" or self.folder is None:
            return None
        if kind == "keyring":
            from vertex_env.tokens.keychain import KeyringStore

            return KeyringStore(self.folder, self._mint_s)
        return FileStore(self.folder, self._mint_s)

    @cached_property
    def broker(self) -> Broker:
        """The broker, which gives tokens of the identity."""
        s, key = self.settings, self.identity.key
        source = AdcSource(
            self.adc,
            self.identity,
            self.now,
            self.inputs.environ.unwatched,
            self._mint_s,
            default_scopes=s.scope.value == Resolved.scope.default,
            iam_endpoint=self.urls.iam_root,
        )
        renews_late = self.adc.kind == METADATA and s.impersonate.value == ()

        def background_refresh() -> None:
            if self.background_refresh is None or self.folder is None:
                return
            if background.claim_refresh(str(self.folder), key, self.now().timestamp()):
                self.background_refresh()

        return Broker(
            source,
            self.store,
            key,
            s.min_ttl.value,
            self.now,
            self.warn,
            renews_late,
            background_refresh,
        )

    def token(self, *, refresh: bool = False) -> Token:
        """A fresh token; see `Broker.token`.

        Each call returns the same token, unless *refresh* is true.
        """
        if self._token is None or refresh:
            self._token = self.broker.token(refresh=refresh)
        return self._token

    def get(self) -> "Get":
        """A function that sends a request to the Vertex AI API."""
        from vertex_env.vertex.endpoints import http_get

        account = self.identity.impersonate
        who = self.adc.who if account is None else replace(self.adc.who, impersonated=account)
        return http_get(self.token().value, who, self.settings.quota_project.value, self._mint_s)

    def target(self, *, refresh: bool = False) -> Target:
        """The target of requests.

        For a self-deployed endpoint this may ask Google. The answer is remembered for a
        day.

        Args:
            refresh: Ask Google again.

        Raises:
            VertexEnvError: The endpoint could not be looked up, or as for
                `Urls.shared_target`.
        """
        shared, wanted = self.urls.shared_target(), self.settings.endpoint.value
        if wanted is None or shared.verbatim is not None:
            return shared
        from vertex_env.vertex.lookup import Lookup

        lookup = Lookup(self.urls, Notes(self.folder), shared, wanted)
        self.inputs.saw(lookup.path)
        known = None if refresh else lookup.remembered()
        if known is None:
            return lookup.ask(self.get())
        found, until = known
        self.inputs.holds_until(until)
        return found

    def environment(self, *, refresh: bool = False) -> dict[str, str | None]:
        """The variables to set and unset."""
        self.urls.shared_target()  # report wrong settings before a token is minted
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
            kept=self.kept(),
        )

    def kept(self) -> list[str]:
        """Names of variables whose value the user has set, and which therefore stay."""
        rules = judged(self.settings.client.value, self.settings.set.value)
        return [name for name, rule in rules.items() if self.inputs.environ.keeps(name, rule)]

    @property
    def _memory(self) -> Memory | None:
        """The remembered answers; None if none are kept."""
        if self.folder is None or self.settings.store.value != "file":
            return None
        return Memory(self.folder, self.identity.key, self.inputs)

    def remember(
        self,
        args: Sequence[str],
        question: str,
        render: Callable[[Token], str],
        now: datetime,
        *,
        refreshes: bool = True,
    ) -> None:
        """Keep the printed text for the next call; see `Memory.keep_answer`."""
        if self._memory is None or self.store is None:
            return
        if self.store.load(self.identity.key) == self._token:
            min_ttl, refreshes = (
                self.broker.min_left.total_seconds(),
                refreshes and not self.broker.renews_late,
            )
            self._memory.keep_answer(
                args, question, render, now, min_ttl=min_ttl, refreshes=refreshes
            )

    def snapshot(self) -> Kept:
        """Keep a snapshot, which shells load at their start."""
        # A snapshot cannot tell one machine from another, and these credentials belong
        # to a machine.
        if (
            self._memory is None
            or self.adc.of_machine
            or self.settings.min_ttl.value > _SHELLS_MIN_TTL
        ):
            return Kept.NEVER
        return self._memory.keep_snapshot(lambda token: self.environment_for(token, self.target()))

    @property
    def stamp(self) -> Path | None:
        """The file that is replaced with each new stored token; None if none is stored."""
        if self.folder is None or self.settings.store.value == "none":
            return None
        return self.folder / private.STAMP.name(self.identity.key)

    def stamp_of(self, token: Token) -> Path | None:
        """The stamp, if it belongs to *token* or a later token; None if neither was stored."""
        return self.stamp if self.stamp is not None and is_about(self.stamp, token) else None

    def keep_fresh(self) -> None:
        """Wait until the stored token is due and mint the next; see `tokens.keeper`."""
        if self.store is not None:
            keep_fresh(self.store, self.identity.key, self.now, lambda new: self.token(refresh=new))
