"""Look up a self-deployed endpoint and its dedicated host at Google; keep the result for a day."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from vertex_env.cache.notes import Notes
from vertex_env.errors import SettingsError
from vertex_env.vertex.endpoints import Get, find_endpoint
from vertex_env.vertex.target import Target, matches
from vertex_env.vertex.urls import Urls

_REMEMBER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A search for one endpoint, and the note that keeps its result.

    Args:
        urls: Decides whether a token may be sent to the dedicated host.
        notes: The kept results.
        shared: The target without the endpoint, from `Urls.shared_target`.
        wanted: ID or display name of the endpoint.
    """

    urls: Urls
    notes: Notes
    shared: Target
    wanted: str

    @property
    def _name(self) -> str:
        question = f"{self.shared.origin}\n{self.shared.parent}\n{self.wanted}"
        return "endpoint-" + hashlib.sha256(question.encode()).hexdigest()

    @property
    def path(self) -> Path | None:
        """Path of the note's file."""
        return self.notes.path(self._name)

    def remembered(self) -> tuple[Target, float] | None:
        """Return the target with the kept endpoint, and the epoch second when it expires."""
        note = self.notes.load(self._name)
        if note is None or not self._is_endpoint(note[0]):
            return None
        fact, until = note
        return self._target(str(fact["id"]), fact["host"]), until

    def ask(self, get: Get) -> Target:
        """Ask Google for the endpoint, keep the result, and return the target with it.

        Raises:
            VertexEnvError: There is no such endpoint, or Google does not answer.
        """
        # This request is always v1; the API version in the settings is for the clients' requests.
        found = find_endpoint(get, f"{self.shared.origin}/v1", self.shared.parent, self.wanted)
        self.notes.save(self._name, {"id": found.id, "host": found.host}, _REMEMBER)
        return self._target(found.id, found.host)

    def _target(self, found: str, host: str | None) -> Target:
        what = f"the dedicated host of endpoint {found}"
        origin = self.urls.check(f"https://{host}", what) if host else self.shared.origin
        return replace(self.shared, origin=origin, endpoint=found)

    def _is_endpoint(self, fact: Mapping[str, object]) -> bool:
        """Whether *fact*, read from a file, is a valid endpoint.

        It must have an endpoint's ID. Its dedicated host, if it has one, must be a host
        that may get a token.
        """
        host = fact.get("host", "")
        if not matches("endpoint ID", str(fact.get("id"))):
            return False
        if not isinstance(host, str):
            return host is None
        try:
            self.urls.check(f"https://{host}", "its dedicated host")
        except SettingsError:
            return False
        return matches("host", host)
