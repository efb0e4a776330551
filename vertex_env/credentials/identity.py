"""The identity of a token: the credentials, and the settings that change the token."""

from vertex_env.credentials.read import Adc
from vertex_env.errors import SettingsError
from vertex_env.settings.options import Resolved
from vertex_env.tokens.token import Identity
from vertex_env.vertex.target import origin_of
from vertex_env.vertex.urls import Urls


def identify(settings: Resolved, adc: Adc, urls: Urls) -> Identity:
    """Make the identity from *adc* and *settings*.

    Raises:
        SettingsError: A lifetime is set, but no service account is impersonated.
    """
    *delegates, target = settings.impersonate.value or (None,)
    if settings.lifetime.value and target is None and adc.impersonated is None:
        raise SettingsError(
            f"lifetime from {settings.lifetime.source} needs a service account to impersonate: "
            "only then can it be chosen",
            "add --impersonate ACCOUNT, or leave --lifetime out",
        )
    return Identity(
        kind=adc.kind,
        fingerprint=adc.fingerprint,
        scopes=settings.scope.value,
        universe=adc.universe,
        impersonate=target,
        delegates=tuple(d for d in delegates if d),
        lifetime=settings.lifetime.value,
        quota_project=settings.quota_project.value,
        # An air-gapped cloud needs the service that the token is for (google-auth
        # 2.62.2 `google/oauth2/gdch_credentials.py`, 2026-11-22).
        audience=origin_of(settings.base_url.value or urls.root)
        if adc.kind == "gdch_service_account"
        else None,
    )
