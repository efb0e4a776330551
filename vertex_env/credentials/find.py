"""Find the credentials: the file that is named, else gcloud's login, else the machine's account."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from vertex_env import program
from vertex_env.cache.notes import Notes
from vertex_env.credentials import metadata
from vertex_env.credentials.read import METADATA, Adc, from_metadata, read_adc
from vertex_env.errors import CredentialsError, SettingsError, UnavailableError
from vertex_env.settings.gather import Gathered, well_known
from vertex_env.settings.inputs import Inputs
from vertex_env.settings.kinds import Found
from vertex_env.settings.places import home, no_home
from vertex_env.settings.resolve import Layer, first
from vertex_env.vertex.refusals import LOGIN

_REMEMBER_METADATA = timedelta(minutes=5)
"""How long the machine's account is assumed to stay the same. A pod can be bound to
another account."""
_REMEMBER_NO_METADATA = timedelta(minutes=10)


def find_adc(
    settings: Gathered, inputs: Inputs, again: str = "", *, anonymous: bool = False
) -> Adc:
    """Find the credentials that *settings* lead to.

    Args:
        settings: The settings, which may name a credentials file.
        inputs: The environment. The files that were read are added to it, even if the search fails.
        again: Why the credentials must be read again later; see `read_adc`.
        anonymous: Go on without credentials if there are none and the base URL does not need them.

    Raises:
        CredentialsError: There are no usable credentials.
        UnavailableError: A metadata server that must exist does not answer.
    """
    try:
        adc = _find(settings, inputs, again)
    except (CredentialsError, UnavailableError):
        if not (
            anonymous and _says_where(settings.layers) and not _is_there(settings, inputs.environ)
        ):
            raise
        return Adc("anonymous", "nowhere", "")
    inputs.saw(*adc.files)
    if adc.kind == METADATA:
        inputs.holds_until(inputs.started + _REMEMBER_METADATA.total_seconds())
    return adc


def layers_of(adc: Adc) -> tuple[Layer, Layer]:
    """Return two layers of settings from *adc*: one above all other layers, one below them."""
    # Credentials from a pipe cannot be read again, so a stored token could be neither
    # matched to its identity later nor renewed.
    above: Layer = {"store": Found("none", f"{adc.source}, a pipe")} if adc.is_pipe else {}
    found = {"project": adc.project, "quota-project": adc.quota_project}
    return above, {name: Found(value, adc.source) for name, value in found.items() if value}


def _says_where(layers: Sequence[Layer]) -> bool:
    """Whether the settings alone give the base URL; only Google knows an endpoint's host."""
    if first(layers, "base-url") is not None:
        return True
    return first(layers, "project") is not None and first(layers, "endpoint") is None


def _is_there(settings: Gathered, environ: Mapping[str, str]) -> bool:
    """Whether there is a credentials file. Such a file may name another universe."""
    named = first(settings.layers, "credentials")
    path = well_known(environ) if named is None else _expand(named, settings.config, environ)
    return path is not None and os.path.lexists(path)


def _find(settings: Gathered, inputs: Inputs, again: str) -> Adc:
    """Read the named file, else gcloud's well-known file, else ask the metadata server."""
    environ, named = inputs.environ, first(settings.layers, "credentials")
    if named is not None:
        path = _expand(named, settings.config, environ)
        inputs.saw(path)
        return read_adc(path, named.source, environ, again)
    known = well_known(environ)
    if known is not None and os.path.exists(known):  # noqa: PTH110 -- Path.exists raises without access
        return read_adc(known, "gcloud's well-known place", environ, again)
    searched = f"no GOOGLE_APPLICATION_CREDENTIALS, no {known or 'home folder'}"
    server, hint = "no metadata server", f"run: {LOGIN}"
    if known is None:
        hint = f"{no_home(environ)}: set HOME and run {LOGIN}, or add --credentials FILE"
    if not metadata.is_ruled_out(environ):
        if metadata.is_credible(environ):
            found = _ask_metadata(environ, Notes(settings.folder))
            if found is not None:
                return found
        else:
            server = "and nothing says that this machine is Google's and has a metadata server"
            hint += f"; on a machine of Google's: {metadata.NAME_IT}"
    raise CredentialsError(
        f"there are no Application Default Credentials: {searched}, {server}", hint
    )


def _ask_metadata(environ: Mapping[str, str], notes: Notes) -> Adc | None:
    """Ask the metadata server for its account; None if there is no such server.

    The absence of a server is saved as a note, so that later calls do not ask.
    """
    here = {"machine": program.machine()}
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


def _expand(named: Found, config: Path | None, environ: Mapping[str, str]) -> Path:
    """Expand the path *named*: `~` is the home folder.

    A relative path in config.toml starts at the folder of that file.

    Raises:
        SettingsError: There is no home folder.
    """
    text = named.texts[0]
    if text == "~" or text.startswith("~/"):
        base = home(environ)
        if base is None:
            why = f"credentials {text!r} from {named.source} are in no home folder: {no_home(environ)}"
            raise SettingsError(why, "name the file by its absolute path")
        return base / text[2:]
    return config.parent / text if config and named.source.startswith(str(config)) else Path(text)
