"""`status` and `logout`: show settings and stored token, and delete stored data."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from vertex_env.cache import private
from vertex_env.cli.invocation import session_for
from vertex_env.cli.options import Command, settings_options, table_or_json
from vertex_env.cli.output import table, tell, write
from vertex_env.errors import CredentialsError
from vertex_env.redaction import hide
from vertex_env.report import status_facts


@click.command(cls=Command)
@table_or_json("VERTEX_ENV_STATUS_FORMAT")
@settings_options
def status(format_name: str, **options: Any) -> None:
    """Show every setting and where it comes from, the identity, the stored token's
    expiry, and the store.
    """
    import json

    report = _without_secrets(status_facts(session_for(options)))
    if format_name == "json":
        write(json.dumps(report, indent=2, default=_plain) + "\n")
        return
    identity, stored, store = report["identity"], report["token"], report["store"]
    rows = [(name, _plain(s["value"]), s["source"]) for name, s in report["settings"].items()]
    rows += [
        ("identity", identity["principal"], identity["credentials"]),
        ("base URL", report["base_url"], ""),
        ("token", _lasts(stored) if stored else "none stored", stored["expiry"] if stored else ""),
        ("stored in", store["kind"], store["folder"] if store["kind"] != "none" else ""),
    ]
    write(table(("SETTING", "VALUE", "FROM"), [(a, b or "-", c) for a, b, c in rows]))
    if store["problem"]:
        tell(f"warning: {store['problem']}")
    for name in report["unset"]:
        tell(
            f"warning: {name} is set, and export and run unset it: "
            "it would go to Google, override the token, or have a client send the token elsewhere"
        )
    for name in report["kept"]:
        tell(f"warning: {name} is set and stays: {_what_it_does(name)}")


def _what_it_does(name: str) -> str:
    from vertex_env.vertex.variables import SHARED

    if name not in SHARED:
        return "openai-agents sends the token and the prompts to api.openai.com; =1 stops that"
    clients = " and ".join(SHARED[name])
    return f"{clients} sends the token to its host; --client {SHARED[name][0]} sets it"


def _without_secrets(value: Any) -> Any:
    """Hide everything in *value* that looks like a token, such as a part of a profile's name."""
    if isinstance(value, Mapping):
        return {hide(name): _without_secrets(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_without_secrets, value))
    return hide(value) if isinstance(value, str) else value


def _plain(value: object) -> str:
    """A setting's value as text for a person: a list with commas, a duration in seconds."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={template}" for name, template in value.items())
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else str(value)


def _lasts(stored: Mapping[str, Any]) -> str:
    seconds = stored["expires_in"]
    if seconds <= 0:
        return "expired"
    return f"lasts {timedelta(seconds=seconds)}" + (
        "" if stored["fresh"] else ", to be renewed at the next use"
    )


@click.command(cls=Command)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    envvar="VERTEX_ENV_LOGOUT_ALL",
    show_envvar=True,
    help="Of every identity.",
)
@settings_options
def logout(everything: bool, **options: Any) -> None:  # noqa: FBT001
    """Delete the stored token, the answers and keychain items of this identity, or of all."""
    from vertex_env.tokens.keychain import KeyringStore

    if everything:
        folder = private.cache_dir(os.environ)
        if folder is not None:
            KeyringStore(Path(folder)).forget(None)
        return
    try:
        session = session_for(options)
    except CredentialsError as e:
        raise CredentialsError(e.message, "vertex-env logout --all needs none") from e
    if session.folder is not None:
        KeyringStore(session.folder).forget(session.identity.key)
