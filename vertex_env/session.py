"""One request from settings to environment: what `export`, `token`, `run` and the others have in common.

Composes the rooms below, each entered once: the settings, the credentials, the tokens, the target, the environment.
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
"""Shells load a token until it is due; who wants more of it has Python look."""


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
        inputs: The environment; gets what was looked at, also when that fails.
        now: The clock.
        warn: See `Broker`.
        background_refresh: Starts a refresh in a process of its own; not called more than once a minute.
        again: Why the credentials have to be read again later; see `read_adc`.
        anonymous: Do without credentials where there are none and the base URL does not need them.

    Raises:
        SettingsError: A setting or a file with settings is wrong.
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
    """Settings and credentials, and what follows from them."""

    settings: Resolved
    adc: Adc
    inputs: Inputs
    """What an answer depends on."""
    folder: Path | None
    """Where tokens, answers and facts are kept; None where that would be a relative path."""
    now: Now
    warn: Callable[[str], None]
    background_refresh: Callable[[], None] | None
    unstored: str | None = None
    """Why nothing is stored, where that was not the user's choice."""
    _token: Token | None = field(default=None, init=False)

    @cached_property
    def urls(self) -> Urls:
        """Where a token may be sent."""
        return Urls(self.settings, self.adc.universe)

    @cached_property
    def identity(self) -> Identity:
        """Whose token it is; see `identify`."""
        return identify(self.settings, self.adc, self.urls)

    @cached_property
    def store(self) -> Store | None:
        """Where tokens are kept; None where they are not."""
        kind = self.settings.store.value
        if kind == "none" or self.folder is None:
            return None
        mint_s = self.settings.mint_timeout.value.total_seconds()
        if kind == "keyring":
            from vertex_env.tokens.keychain import KeyringStore

            return KeyringStore(self.folder, mint_s)
        return FileStore(self.folder, mint_s)

    @cached_property
    def broker(self) -> Broker:
        """Gives tokens of the identity."""
        s, key = self.settings, self.identity.key
        source = AdcSource(
            self.adc,
            self.identity,
            self.now,
            self.inputs.environ.unwatched,
            s.mint_timeout.value.total_seconds(),
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
        """A fresh token, the same one throughout unless *refresh*; see `Broker.token`."""
        if self._token is None or refresh:
            self._token = self.broker.token(refresh=refresh)
        return self._token

    def get(self) -> "Get":
        """How to ask the Vertex AI API."""
        from vertex_env.vertex.endpoints import http_get

        account = self.identity.impersonate
        who = self.adc.who if account is None else replace(self.adc.who, impersonated=account)
        budget_s = self.settings.mint_timeout.value.total_seconds()
        return http_get(self.token().value, who, self.settings.quota_project.value, budget_s)

    def target(self, *, refresh: bool = False) -> Target:
        """Where requests go. For a self-deployed endpoint this may ask Google, and remembers the answer for a day.

        Args:
            refresh: Ask again.

        Raises:
            VertexEnvError: The endpoint could not be looked up, or as for `Urls.shared_target`.
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
        self.urls.shared_target()  # what is wrong with the settings is told before a token is minted
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
        """Names whose value is the user's own and stays."""
        rules = judged(self.settings.client.value, self.settings.set.value)
        return [name for name, rule in rules.items() if self.inputs.environ.keeps(name, rule)]

    @property
    def _memory(self) -> Memory | None:
        """Where answers are kept; None where they are not."""
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
        """Keep what was printed for the token; see `Memory.keep_answer`."""
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
        """Keep what shells load at their start."""
        # Shells cannot tell one machine from another.
        if (
            self._memory is None
            or self.adc.of_machine
            or self.settings.min_ttl.value > _SHELLS_MIN_TTL
        ):
            return Kept.NEVER
        return self._memory.keep_snapshot(lambda token: self.environment_for(token, self.target()))

    @property
    def stamp(self) -> Path | None:
        """The file that is replaced whenever the stored token changes; None where none is stored."""
        if self.folder is None or self.settings.store.value == "none":
            return None
        return self.folder / private.STAMP.name(self.identity.key)

    def stamp_of(self, token: Token) -> Path | None:
        """The same, if it is about *token* or a later one; None where that could not be stored."""
        return self.stamp if self.stamp is not None and is_about(self.stamp, token) else None

    def keep_fresh(self) -> None:
        """Wait until the stored token is due and mint the next; see `tokens.keeper`."""
        if self.store is not None:
            keep_fresh(self.store, self.identity.key, self.now, lambda new: self.token(refresh=new))
