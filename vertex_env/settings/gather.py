"""The layers of settings of one request: options, variables, config.toml and gcloud's files."""

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
"""Name of the file in which gcloud keeps a login."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Layers of settings, each value of the right shape, and the folders that they give."""

    layers: Sequence[Layer]
    config: Path | None
    """Path of config.toml; None if there is no home folder for it."""
    folder: Path | None
    """Folder of the tokens, answers and facts; None if its path would be relative."""
    unstored: str | None
    """Why nothing is stored, if the user did not choose that."""


def gather(options: Mapping[str, str | Sequence[str] | None], inputs: Inputs) -> Gathered:
    """Read the layers from *options* and from the environment of *inputs*.

    Args:
        options: Settings by field, as `options_layer` takes them.
        inputs: The environment. It records the variables and files that are read.

    Raises:
        SettingsError: A setting is wrong, or a file with settings is.
    """
    environ = inputs.environ
    layers = [options_layer(options), environ_layer(environ)]
    inputs.saw(config_path(environ), *gcloud_files(environ)[1], well_known(environ))
    config = read_config(config_path(environ))
    layers += [config.layer(first(layers, "profile")), google_layer(environ)]
    configuration, properties = read_gcloud(environ)
    layers.append(gcloud_layer(properties, configuration))
    resolve(layers)  # report a wrong setting before the search for credentials
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
    """Path of the file in which gcloud keeps a login; None without a home folder."""
    folder = gcloud_dir(environ)
    return folder and folder / WELL_KNOWN
