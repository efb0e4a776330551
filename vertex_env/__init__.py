"""Fresh Google access tokens for everything that speaks the OpenAI protocol to Vertex AI.

::

    import openai, vertex_env

    client = openai.OpenAI(base_url=vertex_env.base_url(project="my-project"), api_key=vertex_env.token)

`token` is called for each request and gives a token that outlasts it. See `vertex_env.api`.
"""

from vertex_env.program import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vertex_env.api import Settings, atoken, base_url, environment, token
    from vertex_env.errors import VertexEnvError

__all__ = [
    "Settings",
    "VertexEnvError",
    "__version__",
    "atoken",
    "base_url",
    "environment",
    "token",
]


def __getattr__(name: str) -> object:
    # The command line imports this package on its warm path, where the API would cost more than all the rest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vertex_env import api  # noqa: PLC0415

    return getattr(api, name)
