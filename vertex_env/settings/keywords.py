"""The settings as keywords of the Python API; made by python -m tools.keywords: do not edit."""

import os
from dataclasses import dataclass
from datetime import timedelta

from vertex_env.settings.given import Given


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings(Given):
    """Settings by the names of the command line's options; None for what is to come from elsewhere.

    Durations are timedeltas or texts such as `12h`; `set` has items such as `LLM_URL={base_url}/chat/completions`.
    The other lists may be one text with commas: `client="aider,shell-gpt"`.
    """

    profile: str | None = None
    project: str | None = None
    location: str | None = None
    endpoint: str | None = None
    model: str | None = None
    api: str | None = None
    api_version: str | None = None
    base_url: str | None = None
    allow_host: str | tuple[str, ...] = ()
    credentials: str | os.PathLike[str] | None = None
    impersonate: str | None = None
    lifetime: timedelta | str | None = None
    scope: str | tuple[str, ...] = ()
    quota_project: str | None = None
    store: str | None = None
    min_ttl: timedelta | str | None = None
    mint_timeout: timedelta | str | None = None
    client: str | tuple[str, ...] = ()
    set: tuple[str, ...] = ()
