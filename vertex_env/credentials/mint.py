"""Mint access tokens with google-auth.

`google.auth.default()` is not called. For user credentials it starts `gcloud`, which
takes a second, and it looks for the metadata server for up to twelve seconds
(google-auth 2.62.2, 2026-11-22). Instead, `find` and `read` find and check the file,
and this module passes it to google-auth's loader for its type.

The libraries read some variables from `os.environ` themselves, even if the caller
passes another environment (google-auth 2.62.2 `google/auth/environment_vars.py`,
requests 2.34.2 `requests/sessions.py` and `requests/utils.py`, 2026-11):

| used for | variables |
|---|---|
| the metadata server | `GCE_METADATA_HOST`, `_IP`, `_ROOT`, `_TIMEOUT`, `_MTLS_MODE`, |
| | `NO_GCE_CHECK` |
| client certificates | `GOOGLE_API_USE_CLIENT_CERTIFICATE`, `GOOGLE_API_USE_MTLS_ENDPOINT`, |
| | `GOOGLE_API_CERTIFICATE_CONFIG`, `CLOUDSDK_CONTEXT_AWARE_USE_CLIENT_CERTIFICATE`, |
| | `CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH`, `CLOUDSDK_CONFIG`, `HOME` |
| tokens bound to a machine | `GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN`, |
| | `GOOGLE_API_PREVENT_AGENT_TOKEN_SHARING_FOR_GCP_SERVICES`, |
| | `GOOGLE_AUTH_TRUST_BOUNDARY_ENABLED` |
| AWS | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, |
| | `AWS_REGION`, `AWS_DEFAULT_REGION` |
| programs | `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES`; they inherit the whole environment |
| requests | `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` (lower case first), |
| | `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, `NETRC`, `HOME` |
"""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from vertex_env.credentials.certificates import check_certificate_config
from vertex_env.credentials.fingerprint import AWS, innermost
from vertex_env.credentials.read import METADATA, REQUIRED, Adc, is_token_alone
from vertex_env.credentials.transport import is_lean, make_transport
from vertex_env.errors import CredentialsError, UnavailableError, VertexEnvError
from vertex_env.redaction import Secrets
from vertex_env.tokens.token import Identity, Now, Token
from vertex_env.vertex.refusals import Exchange, explain, make_anew, one_line


@dataclass(frozen=True, slots=True)
class AdcSource:
    """Mints access tokens for one identity.

    Args:
        adc: The credentials to mint with.
        identity: The identity to mint for: scopes, impersonation, lifetime.
        now: The clock.
        environ: The environment, for the variables that this module itself reads.
        budget_s: Total time in seconds for all requests of one mint.
        default_scopes: Whether the scopes are the default ones. For a user's refresh
            token, default scopes are not requested, because the login may have granted
            other scopes.
        iam_endpoint: Root of the IAM Credentials API, if it is not Google's usual one.
    """

    adc: Adc
    identity: Identity
    now: Now
    environ: Mapping[str, str] = field(repr=False)
    budget_s: float
    default_scopes: bool = True
    iam_endpoint: str | None = None

    def mint(self) -> Token:
        """Mint a token.

        Raises:
            CredentialsError: The credentials cannot be used as they are.
            RefusedError: Google refused the request.
            UnavailableError: Google could not be reached, or did not answer with a token.
        """
        issued, failed = self.now(), None
        check_certificate_config(self.environ)
        with _silence():
            transport = make_transport(self.budget_s, lean=is_lean(self.adc, self.environ))
            try:
                credentials = self._credentials()
                if self._is_refreshed:
                    credentials.refresh(transport)
            except Exception as e:  # noqa: BLE001 -- google-auth raises TypeError, OSError and more
                failed = self._explain(e, transport.exchange, transport.secrets)
        if failed is not None:
            # Raise outside the except clause. Otherwise google-auth's exception, whose
            # arguments quote answers, would become the context of this one.
            raise failed
        return self._token(credentials, issued, transport.exchange)

    @property
    def _is_refreshed(self) -> bool:
        """Whether the token must be requested from Google; if not, it is in the file itself."""
        return self.identity.impersonate is not None or not is_token_alone(self.adc.info)

    def _token(self, credentials: Any, issued: datetime, exchange: Exchange | None) -> Token:
        value, expiry = credentials.token, credentials.expiry
        host = exchange.host if exchange else "the credentials"
        hint = "a proxy may have answered instead: check HTTPS_PROXY, then try again"
        if not isinstance(value, str) or re.fullmatch(r"[A-Za-z0-9._~+/=-]+", value) is None:
            raise UnavailableError(
                f"{host} answered with something that is not an access token", hint
            )
        if expiry is None:
            raise UnavailableError(f"{host} answered with a token that has no expiry", hint)
        # google-auth's expiry is naive UTC (google-auth 2.62.2
        # `google/auth/_helpers.py` utcnow, 2026-11-22).
        token = Token(value, expiry.replace(tzinfo=UTC), issued)
        if token.remaining(self.now()) <= timedelta(0):
            if not self._is_refreshed:
                raise self._spent()
            raise UnavailableError(
                f"{host} answered with a token that had expired at {token.expiry:%Y-%m-%d %H:%M:%S} UTC already",
                "try again; if that does not help, see whether this machine's clock is right: date -u",
            )
        return token

    def _spent(self) -> VertexEnvError:
        """Return the error for a file whose only token has expired."""
        return CredentialsError(
            f"the token in {self.adc.source} has expired, and the file has nothing to get another with",
            make_anew(self.adc.kind, self.adc.named_by),
        )

    def _credentials(self) -> Any:
        """Load google-auth's credentials for the identity, not yet refreshed."""
        identity = self.identity
        if identity.impersonate is None:
            return self._load(self.adc.info, identity.scopes, identity.lifetime)
        source = self._load(self.adc.info, (), None)
        return self._impersonated(
            source, identity.impersonate, identity.delegates, identity.lifetime
        )

    def _impersonated(
        self, source: Any, target: str, delegates: Sequence[str], lifetime: timedelta | None
    ) -> Any:
        from google.auth import impersonated_credentials

        account = f"projects/-/serviceAccounts/{target}"
        return impersonated_credentials.Credentials(
            source_credentials=source,
            target_principal=target,
            # If these credentials are only the source of another impersonation,
            # google-auth requests the scopes that the impersonation needs.
            target_scopes=list(self.identity.scopes),
            # The API requires resource names
            # (…/rest/v1/projects.serviceAccounts/generateAccessToken, 2026-11-22).
            delegates=[d if "/" in d else f"projects/-/serviceAccounts/{d}" for d in delegates],
            lifetime=_seconds(lifetime) if lifetime else None,
            iam_endpoint_override=(
                f"{self.iam_endpoint}/v1/{account}:generateAccessToken"
                if self.iam_endpoint
                else None
            ),
        )

    def _load(
        self, info: Mapping[str, Any], scopes: Sequence[str], lifetime: timedelta | None
    ) -> Any:
        """Load *info* with google-auth's loader for its type, imported only when needed."""
        data = {name: value for name, value in info.items() if value is not None}
        wanted = list(scopes) or None
        match data.get("type", METADATA):
            case "metadata":
                from google.auth import compute_engine

                return compute_engine.Credentials(scopes=wanted, universe_domain=self.adc.universe)
            case "authorized_user":
                from google.oauth2 import credentials

                # google-auth requires these names, with or without a value.
                data = {**dict.fromkeys(REQUIRED["authorized_user"]), **data}
                return credentials.Credentials.from_authorized_user_info(
                    data, None if self.default_scopes else wanted
                )
            case "service_account":
                from google.oauth2 import service_account

                return service_account.Credentials.from_service_account_info(data, scopes=wanted)
            case "impersonated_service_account":
                # google-auth's own loader always requests one hour and supports only
                # three types of source.
                source = self._load(data["source_credentials"], (), None)
                return self._impersonated(
                    source, self.adc.impersonated or "", data.get("delegates", ()), lifetime
                )
            case "external_account_authorized_user":
                from google.auth import external_account_authorized_user

                return external_account_authorized_user.Credentials.from_info(data)
            case "gdch_service_account":
                from google.oauth2 import gdch_credentials

                loaded = gdch_credentials.ServiceAccountCredentials.from_service_account_info(data)
                return loaded.with_gdch_audience(self.identity.audience)
            case _:
                return _load_external_account(data, wanted, lifetime)

    def _explain(
        self, error: Exception, exchange: Exchange | None, sent: Secrets
    ) -> VertexEnvError:
        """Convert *error* to one of vertex-env's errors.

        The text contains no secrets that were *sent* or that are in the credentials.
        """
        sent.add_data(self.adc.info)
        sent.add_environ(self.environ)
        source = innermost(self.adc.info).get("credential_source") or {}
        if exchange is None and source.get("executable") is not None:
            return self._explain_program(error, sent)
        if (
            exchange is None
            and type(error).__name__ == "InvalidOperation"
            and is_token_alone(self.adc.info)
        ):
            return self._spent()
        return explain(exchange, _told(error), self.adc.who, sent)

    def _explain_program(self, error: Exception, secrets: Secrets) -> VertexEnvError:
        """Return the error for a program that failed to give the subject token."""
        program = f"the program named in {self.adc.source}"
        by_hand = "run the command in that file by hand to see"
        said = _told(error)
        if "explicitly allowed" in said:
            return CredentialsError(
                f"{program} is not allowed to run yet",
                "if you trust that file: export GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1",
            )
        if type(error).__name__ == "TimeoutExpired":
            return UnavailableError(
                f"{program} did not answer in time", f"{by_hand}, or raise timeout_millis there"
            )
        if isinstance(
            error, json.JSONDecodeError | UnicodeDecodeError | TypeError | AttributeError | KeyError
        ):
            said = "what it printed is not what https://google.aip.dev/auth/4117 asks for"
        # google-auth quotes the program's output, which may contain the subject token.
        said = one_line(said.partition(". Error: ")[0], secrets)
        return CredentialsError(f"{program} gave no subject token: {said}", by_hand)


def _load_external_account(
    data: dict[str, Any], scopes: list[str] | None, lifetime: timedelta | None
) -> Any:
    if lifetime:
        data["service_account_impersonation"] = {"token_lifetime_seconds": _seconds(lifetime)}
    if data["subject_token_type"] == AWS:
        from google.auth import aws

        return aws.Credentials.from_info(data, scopes=scopes)
    if data["credential_source"].get("executable") is not None:
        from google.auth import pluggable

        return pluggable.Credentials.from_info(data, scopes=scopes)
    from google.auth import identity_pool

    return identity_pool.Credentials.from_info(data, scopes=scopes)


def _told(error: Exception) -> str:
    """Return the text of *error* for a person.

    google-auth's errors have more arguments, such as an answer's body, which are meant
    for programs.
    """
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAuthError) and error.args:
        return str(error.args[0])
    if isinstance(error, OSError | ValueError):
        return str(error)
    return f"google-auth expects something else there ({error})"


def _seconds(lifetime: timedelta) -> int:
    return int(lifetime.total_seconds())


@contextmanager
def _silence() -> Iterator[None]:
    """Keep google-auth's warnings and log records off stderr: some tools mix it with stdout."""
    for name in ("google", "urllib3", "requests"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
