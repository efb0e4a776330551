"""The settings as keywords of the Python API. Made by python -m tools.keywords: do not edit."""

import os
from dataclasses import dataclass
from datetime import timedelta

from vertex_env.settings.given import Given


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings(Given):
    """Settings, named like the command line's options; None leaves a setting to the other layers.

    A duration is a timedelta or a text such as `12h`. An item of `set` is a text such as
    `LLM_URL={base_url}/chat/completions`. The other lists may be one text with commas:
    `client="aider,shell-gpt"`.
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
