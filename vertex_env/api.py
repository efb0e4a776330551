"""The Python API: tokens, store and settings of the command line, for programs.

::

    url = vertex_env.base_url(project="my-project")
    client = openai.OpenAI(base_url=url, api_key=vertex_env.token)
    client = openai.AsyncOpenAI(base_url=vertex_env.base_url(), api_key=vertex_env.atoken)
    llm = ChatOpenAI(model=name, base_url=vertex_env.base_url(), api_key=vertex_env.token)

    account = "robot@my-project.iam.gserviceaccount.com"
    robot = vertex_env.Settings(project="my-project", impersonate=account)
    client = openai.OpenAI(
        base_url=vertex_env.base_url(robot), api_key=lambda: vertex_env.token(robot)
    )

Settings that are not given come from variables, config.toml, gcloud's configuration and
the credentials, as on the command line. Errors are `VertexEnvError`: `message` says
what failed, and `hint` how to fix it.
"""

import asyncio
import copy
import functools
import os
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from vertex_env.errors import VertexEnvError
from vertex_env.redaction import hide, of_environ
from vertex_env.session import Session, open_session
from vertex_env.settings.inputs import Inputs
from vertex_env.settings.keywords import Settings
from vertex_env.tokens.token import Token

__all__ = ["Settings", "VertexEnvError", "atoken", "base_url", "environment", "token"]

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_AGAIN_S = 10.0
"""Seconds between two looks into the store, while the token in memory is due.

A background refresh may have put a new token there.
"""


def _cleaned(error: BaseException) -> BaseException:
    """Prepare *error* to leave the package: remove what may contain a secret.

    These are the exceptions that caused *error*, and the local variables of this
    package's functions. Programs that report errors send causes and variables along
    (https://docs.sentry.io/platforms/python/data-management/sensitive-data/, 2026-11).
    An exception of google-auth may contain a server's answer, and a variable may
    contain the token. The lines of the traceback stay.
    """
    trace = error.__traceback__
    while trace is not None:
        with suppress(RuntimeError):  # a frame that still runs cannot be cleared: the caller's
            trace.tb_frame.clear()
        trace = trace.tb_next
    error.__cause__ = error.__context__ = None
    error.__suppress_context__ = False
    if isinstance(error, VertexEnvError):
        error.rewrite(of_environ(os.environ).redact)
    elif isinstance(error, TypeError):  # Python's message repeats the name of an unknown argument
        error.args = tuple(hide(arg) if isinstance(arg, str) else arg for arg in error.args)
    return error


def _sheltered(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap *function* so that its exceptions contain no secrets."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as e:  # noqa: BLE001 -- raised again below
            failed = _cleaned(e)
        # An argument may be a token that was pasted by mistake, so delete the
        # arguments. Raise outside the except clause, so that the exception gets no
        # context.
        del args, kwargs
        try:
            raise failed
        finally:
            del failed

    return call


def _sheltered_async(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap a coroutine function so that its exceptions contain no secrets."""

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except BaseException as e:  # noqa: BLE001 -- raised again below
            failed = _cleaned(e)
        del args, kwargs
        try:
            raise failed
        finally:
            del failed

    return call


class _Holder:
    """The token of one `Settings`, shared by all threads of this process."""

    def __init__(self, settings: Settings) -> None:
        self._options = settings.options()
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._min_left = timedelta(0)
        self._look_at = 0.0
        self._failed: tuple[VertexEnvError, float] | None = None

    def fresh(self) -> str | None:
        """The token in memory; None if `get` has to look into the store or to mint."""
        token, now = self._token, _now()
        if token is None or not token.is_fresh(now, self._min_left):
            return None
        if (
            token.wants_background_refresh(now, self._min_left)
            and time.monotonic() >= self._look_at
        ):
            return None
        return token.value

    def get(self) -> str:
        """A fresh token: from memory, from the store, or from Google."""
        value = self.fresh()
        if value is not None:
            return value
        asked = time.monotonic()
        with self._lock:
            value = self.fresh()
            if value is not None:
                return value
            if self._failed is not None and self._failed[1] >= asked:
                # Another thread failed while this one waited for the lock. Without
                # this, each waiting thread would try and fail, one after another.
                raise copy.copy(self._failed[0])
            try:
                session = _session(self._options)
                token = session.token()
            except VertexEnvError as e:
                self._failed = copy.copy(e), time.monotonic()  # the copy has no traceback
                raise
            self._token, self._min_left = token, session.broker.min_left
            self._look_at = time.monotonic() + _LOOK_AGAIN_S
            return token.value


_holders: dict[Settings, _Holder] = {}

if hasattr(os, "register_at_fork"):
    # A forked child must not wait for a lock that a thread of its parent held. The
    # child soon gets a token again, because the store has it.
    os.register_at_fork(after_in_child=_holders.clear)


@_sheltered
def token(settings: Settings | None = None, **options: Any) -> str:
    """An access token that outlasts a request: from memory, from the store, or newly minted.

    Thread-safe. The token in memory is kept until it is due. Until then, a logout or a
    change in the variables, in config.toml or in the credentials has no effect.
    `environment` reads the variables, config.toml and the credentials in each call.

    Args:
        settings: The settings to start from.
        options: Fields of `Settings` that replace those of *settings*.

    Raises:
        VertexEnvError: No token could be had.
        TypeError: `Settings` has no such field.
    """
    return _holder(settings, options).get()


@_sheltered_async
async def atoken(settings: Settings | None = None, **options: Any) -> str:
    """`token` for asyncio: slow work is done in a thread."""
    holder = _holder(settings, options)
    value = holder.fresh()
    return value if value is not None else await asyncio.to_thread(holder.get)


@_sheltered
def base_url(settings: Settings | None = None, **options: Any) -> str:
    """The base URL.

    An example is
    `https://aiplatform.googleapis.com/v1/projects/P/locations/global/endpoints/openapi`.
    No credentials are needed if the settings contain the project. For a self-deployed
    endpoint, the host may be looked up at Google. Arguments and errors are those of
    `token`.
    """
    return _session(_merge(settings, options).options(), anonymous=True).target().base_url


@_sheltered
def environment(settings: Settings | None = None, **options: Any) -> dict[str, str | None]:
    """The variables that `vertex-env export` would set; None for those that it would unset.

    Arguments and errors are those of `token`.
    """
    return _session(_merge(settings, options).options()).environment()


def _merge(settings: Settings | None, options: dict[str, Any]) -> Settings:
    return replace(settings or Settings(), **options)


def _holder(settings: Settings | None, options: dict[str, Any]) -> _Holder:
    merged = _merge(settings, options)
    found = _holders.get(merged)
    return found if found is not None else _holders.setdefault(merged, _Holder(merged))


def _session(options: dict[str, str | Sequence[str] | None], *, anonymous: bool = False) -> Session:
    @_sheltered
    def refresh() -> None:
        # Ignore a failure: the next call that needs a new token fails and reports it.
        with suppress(VertexEnvError):
            _session(options).token(refresh=True)

    def background_refresh() -> None:
        # A thread, not a process as on the command line. A process would stay a zombie
        # until this one ends.
        threading.Thread(target=refresh, name="vertex-env", daemon=True).start()

    def warn(line: str) -> None:
        warnings.warn(line, stacklevel=4)

    return open_session(
        options, Inputs(os.environ), _now, warn, background_refresh, anonymous=anonymous
    )


def _now() -> datetime:
    return datetime.now(UTC)
