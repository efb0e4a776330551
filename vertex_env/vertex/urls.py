"""Make URLs from the settings, and check that an access token may be sent to them."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from vertex_env.errors import SettingsError
from vertex_env.vertex.target import NO_REGIONS, Api, Target, api_host, check_url, origin_of

T_co = TypeVar("T_co", covariant=True)


class Said(Protocol[T_co]):
    """A setting's value and its source; as text, both: `'my-project' from GOOGLE_CLOUD_PROJECT`."""

    @property
    def value(self) -> T_co: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102


class Wanted(Protocol):
    """The settings that URLs are made from."""

    @property
    def project(self) -> Said[str | None]: ...  # noqa: D102
    @property
    def location(self) -> Said[str]: ...  # noqa: D102
    @property
    def endpoint(self) -> Said[str | None]: ...  # noqa: D102
    @property
    def model(self) -> Said[str | None]: ...  # noqa: D102
    @property
    def api(self) -> Said[Api]: ...  # noqa: D102
    @property
    def api_version(self) -> Said[str]: ...  # noqa: D102
    @property
    def base_url(self) -> Said[str | None]: ...  # noqa: D102
    @property
    def allow_host(self) -> Said[tuple[str, ...]]: ...  # noqa: D102
    @property
    def api_endpoint(self) -> Said[str | None]: ...  # noqa: D102
    @property
    def iam_endpoint(self) -> Said[str | None]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Urls:
    """The URLs for one request.

    Args:
        settings: The user's settings.
        universe: The credentials' universe domain, such as `googleapis.com`.
    """

    settings: Wanted
    universe: str

    def check(self, url: str, what: str) -> str:
        """Return *url* if a token may be sent there; see `check_url`.

        *what* is the URL's name in messages.

        Raises:
            SettingsError: A token must not be sent there.
        """
        return check_url(
            url, what=what, allowed=self.settings.allow_host.value, universe=self.universe
        )

    @property
    def root(self) -> str:
        """Root of the Vertex AI API for the location.

        Example: `https://europe-west4-aiplatform.googleapis.com`.
        """
        return self.root_for(self.settings.location.value)

    def root_for(self, location: str) -> str:
        """Return the root of the Vertex AI API for *location*.

        gcloud's override of the API endpoint, if it is set, applies to all locations.

        Raises:
            SettingsError: A token must not be sent to the override.
        """
        override = self.settings.api_endpoint
        if override.value is not None:
            return self.check(override.value, f"the API endpoint from {override.source}")
        return f"https://{api_host(location, self.universe)}"

    @property
    def iam_root(self) -> str | None:
        """Root of the IAM Credentials API; None if it is Google's usual one.

        Raises:
            SettingsError: A token must not be sent there.
        """
        iam = self.settings.iam_endpoint
        return iam.value and self.check(iam.value, f"the IAM endpoint from {iam.source}")

    @property
    def project(self) -> str:
        """The project, which is required.

        Raises:
            SettingsError: No project is set.
        """
        if self.settings.project.value is None:
            raise SettingsError(
                "no project is set: not by --project, VERTEX_ENV_PROJECT, a profile, GOOGLE_CLOUD_PROJECT or gcloud",
                "add --project ID, or run: gcloud config set project ID",
            )
        return self.settings.project.value

    def shared_target(self) -> Target:
        """Return the target, without those data of a self-deployed endpoint that only Google has.

        Raises:
            SettingsError: The settings contradict each other, or one is missing.
        """
        s = self.settings
        if s.base_url.value is not None:
            what = f"the base URL from {s.base_url.source}"
            url = self.check(s.base_url.value, what)
            if url.endswith("/completions"):
                raise SettingsError(
                    f"{what} ends in an API's path", "leave /chat/completions out: clients add it"
                )
            return Target(s.project.value or "", s.location.value, origin_of(url), verbatim=url)
        if s.endpoint.value is None:
            self._check_model()
        elif s.api.value != "chat":
            raise SettingsError(
                "a self-deployed endpoint has the chat API only", "leave --api or --endpoint out"
            )
        elif s.location.value in NO_REGIONS:
            raise SettingsError(
                f"endpoint {s.endpoint} is in some region, but location is {s.location}",
                "add --location REGION; vertex-env endpoints --all-locations shows which",
            )
        return Target(self.project, s.location.value, self.root, s.api.value, s.api_version.value)

    def _check_model(self) -> None:
        model = self.settings.model
        if model.value is None:
            return
        publisher, slash, _ = model.value.partition("/")
        if self.settings.api.value == "chat" and not slash:
            raise SettingsError(
                f"model {model} has no publisher", f"did you mean google/{model.value}?"
            )
        if self.settings.api.value == "responses" and slash and publisher != "openai":
            # https://github.com/openai/openai-python `src/openai/providers/vertex.py`, 2026-11-24
            raise SettingsError(
                f"model {model} has no Responses API: on Vertex AI only OpenAI's own models have it",
                "--api chat serves this model",
            )
