"""`endpoints`: list self-deployed endpoints, of one region or of all."""

import sys
from typing import Any

import click

from vertex_env.cli.invocation import session_for
from vertex_env.cli.options import Command, settings_options, table_or_json
from vertex_env.cli.output import table, tell, write
from vertex_env.errors import SettingsError, VertexEnvError
from vertex_env.session import Session
from vertex_env.vertex.target import NO_REGIONS


@click.command(cls=Command)
@click.option("--all-locations", is_flag=True, show_envvar=True, help="Look in every region.")
@table_or_json("VERTEX_ENV_ENDPOINTS_FORMAT")
@settings_options
def endpoints(all_locations: bool, format_name: str, **options: Any) -> None:  # noqa: FBT001
    """List self-deployed endpoints: ID, name, location, models and dedicated host."""
    import json
    from dataclasses import asdict

    found, failures = _list_endpoints(session_for(options), all_locations=all_locations)
    for location, error in failures:
        tell(f"warning: {location} is not in the list: {error.message}")
    if format_name == "json":
        write(json.dumps([asdict(endpoint) for endpoint in found], indent=2) + "\n")
    else:
        rows = [
            (e.id, e.name, e.location, ", ".join(e.models) or "-", e.host or "-") for e in found
        ]
        write(table(("ID", "NAME", "LOCATION", "MODELS", "DEDICATED HOST"), rows))


def _list_endpoints(
    session: Session, *, all_locations: bool
) -> tuple[list[Any], list[tuple[str, VertexEnvError]]]:
    """Endpoints, and the locations whose request failed, with their errors.

    Raises:
        VertexEnvError: All requests failed.
    """
    from concurrent.futures import ThreadPoolExecutor

    from vertex_env.vertex.endpoints import Endpoint, list_endpoints, list_locations

    project, location = session.urls.project, session.settings.location
    if not all_locations and location.value in NO_REGIONS:
        raise SettingsError(
            f"endpoints are in regions, but location is {location}",
            "add --location REGION, or --all-locations",
        )
    get = session.get()

    def ask(name: str) -> list[Endpoint] | VertexEnvError:
        try:
            root = session.urls.root_for(name)
            return list(list_endpoints(get, f"{root}/v1", f"projects/{project}/locations/{name}"))
        except VertexEnvError as e:
            return e

    everywhere = f"{session.urls.root_for('global')}/v1"
    names = list_locations(get, everywhere, project) if all_locations else [location.value]
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(ask, names)
        if all_locations and sys.stderr.isatty():
            with click.progressbar(
                answers, length=len(names), label="regions", file=sys.stderr
            ) as bar:
                answers = iter(list(bar))
        results = list(zip(names, answers, strict=True))
    failures = [(name, answer) for name, answer in results if isinstance(answer, VertexEnvError)]
    if failures and len(failures) == len(results):
        raise failures[0][1]
    found = [endpoint for _, answer in results if isinstance(answer, list) for endpoint in answer]
    return found, failures
