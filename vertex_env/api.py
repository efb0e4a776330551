"""The Python API: the command line's tokens, store and settings, for programs.

::

    client = openai.OpenAI(base_url=vertex_env.base_url(project="my-project"), api_key=vertex_env.token)
    client = openai.AsyncOpenAI(base_url=vertex_env.base_url(), api_key=vertex_env.atoken)
    llm = ChatOpenAI(model=name, base_url=vertex_env.base_url(), api_key=vertex_env.token)

    robot = vertex_env.Settings(project="my-project", impersonate="robot@my-project.iam.gserviceaccount.com")
    client = openai.OpenAI(base_url=vertex_env.base_url(robot), api_key=lambda: vertex_env.token(robot))

What is not given comes from variables, config.toml, gcloud's configuration and the credentials, as on the command line.
Errors are `VertexEnvError`: its `message` says what failed, its `hint` what cures it.
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
"""How long a token that is due is given out before the store is looked at again for one fetched in the background."""


def _cleaned(error: BaseException) -> BaseException:
    """*error* as it may leave: without the exceptions that it came of and without the variables of our functions.

    Programs that report errors send both (https://docs.sentry.io/platforms/python/data-management/sensitive-data/,
    2026-11): google-auth's exceptions have answers in them, and a variable may have the token. The lines of the
    traceback stay.
    """
    trace = error.__traceback__
    while trace is not None:
        with suppress(RuntimeError):  # it is still running: our caller
            trace.tb_frame.clear()
        trace = trace.tb_next
    error.__cause__ = error.__context__ = None
    error.__suppress_context__ = False
    if isinstance(error, VertexEnvError):
        error.rewrite(of_environ(os.environ).redact)
    elif isinstance(error, TypeError):  # Python repeats the name of an argument that there is not
        error.args = tuple(hide(arg) if isinstance(arg, str) else arg for arg in error.args)
    return error


def _sheltered(function: Callable[P, T]) -> Callable[P, T]:
    """*function*, whose exceptions leave without secrets."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as e:  # noqa: BLE001 -- raised again below
            failed = _cleaned(e)
        # A token that was pasted in the wrong place is an argument. Outside the except clause, as a new context.
        del args, kwargs
        try:
            raise failed
        finally:
            del failed

    return call


def _sheltered_async(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same for a coroutine."""

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
    """The token of one `Settings`, for all threads of this process."""

    def __init__(self, settings: Settings) -> None:
        self._options = settings.options()
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._min_left = timedelta(0)
        self._look_at = 0.0
        self._failed: tuple[VertexEnvError, float] | None = None

    def fresh(self) -> str | None:
        """The token in hand, if it is as good as any other."""
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
        """A fresh token, from here, the store, or Google."""
        value = self.fresh()
        if value is not None:
            return value
        asked = time.monotonic()
        with self._lock:
            value = self.fresh()
            if value is not None:
                return value
            if self._failed is not None and self._failed[1] >= asked:
                # Met while we waited: else all threads would meet it one after another.
                raise copy.copy(self._failed[0])
            try:
                session = _session(self._options)
                token = session.token()
            except VertexEnvError as e:
                self._failed = copy.copy(e), time.monotonic()  # which has no traceback
                raise
            self._token, self._min_left = token, session.broker.min_left
            self._look_at = time.monotonic() + _LOOK_AGAIN_S
            return token.value


_holders: dict[Settings, _Holder] = {}

if hasattr(os, "register_at_fork"):
    # A child must not wait for a lock that a thread of its parent held; nor for long for a token: the store has it.
    os.register_at_fork(after_in_child=_holders.clear)


@_sheltered
def token(settings: Settings | None = None, **options: Any) -> str:
    """An access token that outlasts a request: from memory, else from the store, else minted. Thread-safe.

    One in memory is kept until it is due: what the variables, config.toml or the credentials say by
    then, or a logout, changes nothing before. `environment` looks at them each time.

    Args:
        settings: Where to start from.
        options: Fields of `Settings` that differ from that.

    Raises:
        VertexEnvError: There is none to be had.
        TypeError: `Settings` has no such field.
    """
    return _holder(settings, options).get()


@_sheltered_async
async def atoken(settings: Settings | None = None, **options: Any) -> str:
    """`token` for asyncio: what takes time is done in a thread."""
    holder = _holder(settings, options)
    value = holder.fresh()
    return value if value is not None else await asyncio.to_thread(holder.get)


@_sheltered
def base_url(settings: Settings | None = None, **options: Any) -> str:
    """The base URL, such as `https://aiplatform.googleapis.com/v1/projects/P/locations/global/endpoints/openapi`.

    It needs no credentials where the settings have the project. For a self-deployed endpoint it may
    be looked up at Google. Arguments and errors as for `token`.
    """
    return _session(_merge(settings, options).options(), anonymous=True).target().base_url


@_sheltered
def environment(settings: Settings | None = None, **options: Any) -> dict[str, str | None]:
    """The variables that `vertex-env export` would set, and those to unset as None.

    Arguments and errors as for `token`.
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
        # Whoever needs a token when this one is too late meets the failure then.
        with suppress(VertexEnvError):
            _session(options).token(refresh=True)

    def background_refresh() -> None:
        # Not a process as on the command line, which would be a zombie for as long as this one lives.
        threading.Thread(target=refresh, name="vertex-env", daemon=True).start()

    def warn(line: str) -> None:
        warnings.warn(line, stacklevel=4)

    return open_session(
        options, Inputs(os.environ), _now, warn, background_refresh, anonymous=anonymous
    )


def _now() -> datetime:
    return datetime.now(UTC)
