"""Which self-deployed endpoint a setting means, and its dedicated host: what Google says, remembered for a day."""

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
    """The question, and where its answer is remembered.

    Args:
        urls: Says whether a token may be sent to the dedicated host.
        notes: What is remembered.
        shared: The target but for the endpoint, as `Urls.shared_target` gives it.
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
        """The file of the note."""
        return self.notes.path(self._name)

    def remembered(self) -> tuple[Target, float] | None:
        """The target with the endpoint that is remembered, and the epoch second until which that holds."""
        note = self.notes.load(self._name)
        if note is None or not self._is_endpoint(note[0]):
            return None
        fact, until = note
        return self._target(str(fact["id"]), fact["host"]), until

    def ask(self, get: Get) -> Target:
        """The target with the endpoint that Google names, which is remembered.

        Raises:
            VertexEnvError: There is no such endpoint, or Google does not say.
        """
        # The API version of requests says nothing about this one, which is always v1.
        found = find_endpoint(get, f"{self.shared.origin}/v1", self.shared.parent, self.wanted)
        self.notes.save(self._name, {"id": found.id, "host": found.host}, _REMEMBER)
        return self._target(found.id, found.host)

    def _target(self, found: str, host: str | None) -> Target:
        what = f"the dedicated host of endpoint {found}"
        origin = self.urls.check(f"https://{host}", what) if host else self.shared.origin
        return replace(self.shared, origin=origin, endpoint=found)

    def _is_endpoint(self, fact: Mapping[str, object]) -> bool:
        """Whether *fact*, from a file, has an endpoint's ID, and no dedicated host or one that may get a token."""
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
