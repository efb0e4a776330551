"""Facts for `status`, found without asking Google and without showing the token."""

from typing import Any

from vertex_env.cache import answers
from vertex_env.errors import SettingsError
from vertex_env.session import Session
from vertex_env.settings.options import OPTIONS
from vertex_env.vertex.target import origin_of
from vertex_env.vertex.variables import TRACING, to_unset


def status_facts(session: Session) -> dict[str, Any]:
    """Collect what `status` shows.

    These are the settings with their sources, the identity, the base URL, the stored
    token, the store, and the variables that conflict with it.
    """
    settings = {
        option.name: getattr(session.settings, option.field)
        for option in OPTIONS
        if not option.internal
    }
    try:
        shared = session.urls.shared_target()
        url = (
            shared.base_url
            if session.settings.endpoint.value is None
            else f"{shared.base_url} (or a dedicated host)"
        )
    except SettingsError as e:
        url = f"none: {e.message}"
    stored, now, store = None, session.now(), session.store
    problem = session.unstored if store is None else store.problem()
    if store is not None and problem is None:
        stored = store.load(session.identity.key)
    return {
        "settings": {name: {"value": s.value, "source": s.source} for name, s in settings.items()},
        "identity": {
            "kind": session.adc.kind,
            "principal": session.identity.impersonate
            or session.adc.impersonated
            or session.adc.who.principal
            or f"{session.adc.kind.replace('_', ' ')} credentials",
            "credentials": session.adc.source,
            "universe": session.adc.universe,
        },
        "base_url": url,
        "token": stored
        and {
            "expiry": answers.rfc3339(stored.expiry.timestamp()),
            "expires_in": int(stored.remaining(now).total_seconds()),
            "fresh": stored.is_fresh(now, session.broker.min_left),
        },
        "store": {
            "kind": session.settings.store.value,
            "folder": session.folder and str(session.folder),
            "problem": problem,
        },
        **_in_the_way(session, origin_of(url)),
    }


def _in_the_way(session: Session, origin: str) -> dict[str, list[str]]:
    """Names of set variables that make clients talk to another host than *origin*.

    `unset` lists the names that `export` and `run` unset. `kept` lists the names that stay.
    """
    environ, clients, extra = (
        session.inputs.environ,
        session.settings.client.value,
        session.settings.set.value,
    )
    kept = session.kept()
    # Harmless are variables that `export --client` has set in this shell, the headers,
    # and `true` as the value for tracing.
    foreign = [
        name
        for name in kept
        if name in environ
        and not environ[name].startswith(origin)
        and name != "OPENAI_CUSTOM_HEADERS"
        if name != TRACING or environ[name].lower() != "true"
    ]
    return {
        "unset": [name for name in to_unset(clients, extra, kept) if name in environ],
        "kept": foreign,
    }
