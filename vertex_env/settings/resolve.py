"""Every setting with its value and its source, from layers.

This module is pure: other modules read files and variables. The first layer that has a
setting wins. The order is: option, `VERTEX_ENV_*` variable, profile in config.toml,
Google's own variables, gcloud's active configuration, the credentials, default.
"""

from collections.abc import Mapping, Sequence

from vertex_env.settings.kinds import Found
from vertex_env.settings.options import OPTIONS, Resolved

Layer = Mapping[str, Found]
"""A layer: name of a setting to the raw value that the layer has for it."""


def options_layer(options: Mapping[str, str | Sequence[str] | None]) -> Layer:
    """Layer of command-line options or keyword arguments, by field.

    An example is `{"quota_project": "p", "client": ["aider"]}`.
    """
    found = {}
    for option in OPTIONS:
        value = None if option.internal else options.get(option.field)
        if isinstance(value, str) or value:
            found[option.name] = Found(
                value if isinstance(value, str) else tuple(value), f"--{option.name}"
            )
    return found


def environ_layer(environ: Mapping[str, str]) -> Layer:
    """Layer of `VERTEX_ENV_*` variables.

    An empty variable counts as unset, and so does one that contains only commas.
    """
    split = {o: o.kind.split(environ.get(o.variable, "")) for o in OPTIONS if not o.internal}
    return {o.name: Found(value, o.variable) for o, value in split.items() if value}


def google_layer(environ: Mapping[str, str]) -> Layer:
    """Layer of the variables that Google's own tools read; an empty variable counts as unset."""
    found = {}
    for option in OPTIONS:
        for variable in option.google:
            if environ.get(variable):
                found[option.name] = Found(environ[variable], variable)
                break
    return found


def gcloud_layer(properties: Mapping[str, str], configuration: str) -> Layer:
    """Layer of gcloud's properties, such as `{"core/project": "p"}`."""
    return {
        o.name: Found(
            properties[o.gcloud], f"{o.gcloud} in gcloud's configuration {configuration!r}"
        )
        for o in OPTIONS
        if o.gcloud is not None and properties.get(o.gcloud)
    }


def as_environ(layer: Layer) -> dict[str, str]:
    """*layer* as `VERTEX_ENV_*` variables, which pass options to a child process."""
    result = {}
    for option in OPTIONS:
        if option.name in layer:
            value = layer[option.name].value
            result[option.variable] = (
                value if isinstance(value, str) else option.kind.separator.join(value)
            )
    return result


def first(layers: Sequence[Layer], name: str) -> Found | None:
    """The value of *name* in the first layer that has it; None if no layer has it."""
    return next((layer[name] for layer in layers if name in layer), None)


def resolve(layers: Sequence[Layer]) -> Resolved:
    """Resolve every setting from *layers*.

    Raises:
        SettingsError: A value does not have the required shape; the message names its
            source.
    """
    return Resolved(
        **{option.field: option.resolve(first(layers, option.name)) for option in OPTIONS}
    )
