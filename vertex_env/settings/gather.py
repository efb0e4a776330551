"""The layers of settings that one request starts from: options, variables, config.toml, gcloud's files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vertex_env.settings.config import read_config
from vertex_env.settings.gcloud import gcloud_files, read_gcloud
from vertex_env.settings.inputs import Inputs
from vertex_env.settings.kinds import Found
from vertex_env.settings.places import cache_folder, config_path, gcloud_dir
from vertex_env.settings.resolve import (
    Layer,
    environ_layer,
    first,
    gcloud_layer,
    google_layer,
    options_layer,
    resolve,
)

WELL_KNOWN = "application_default_credentials.json"
"""The name under which gcloud keeps a login."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Layers, each well formed, and the folders that they lead to."""

    layers: Sequence[Layer]
    config: Path | None
    """Where config.toml is; None where there is no place for it."""
    folder: Path | None
    """Where tokens, answers and facts are kept; None where that would be a relative path."""
    unstored: str | None
    """Why nothing is stored, where that was not the user's choice."""


def gather(options: Mapping[str, str | Sequence[str] | None], inputs: Inputs) -> Gathered:
    """What *options*, by field as `options_layer` takes them, and the environment of *inputs* say.

    Raises:
        SettingsError: A setting or a file with settings is wrong.
    """
    environ = inputs.environ
    layers = [options_layer(options), environ_layer(environ)]
    inputs.saw(config_path(environ), *gcloud_files(environ)[1], well_known(environ))
    config = read_config(config_path(environ))
    layers += [config.layer(first(layers, "profile")), google_layer(environ)]
    configuration, properties = read_gcloud(environ)
    layers.append(gcloud_layer(properties, configuration))
    resolve(layers)  # a wrong setting is told before anything is looked for
    folder, unstored = cache_folder(environ)
    if (
        unstored is not None
        and (chosen := first(layers, "store")) is not None
        and chosen.value == "none"
    ):
        unstored = None
    if unstored is not None:
        layers.insert(0, {"store": Found("none", "no absolute folder to store in")})
    return Gathered(layers, config.path, folder, unstored)


def well_known(environ: Mapping[str, str]) -> Path | None:
    """Where gcloud keeps a login; None without a home."""
    folder = gcloud_dir(environ)
    return folder and folder / WELL_KNOWN
