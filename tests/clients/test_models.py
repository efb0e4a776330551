"""Clients that take their model from a variable or a file of their own, and are answered with it.

Each is driven twice: with what vertex-env or the README gives, and without it.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clients.installs import Install
from tests.clients.table import MODEL, SHELL_GPT, Client
from tests.clients.world import ROOT, drive

URL = "https://aiplatform.googleapis.com/v1/projects/sandbox-project/locations/global/endpoints/openapi"
FILE = "extra-openai-models.yaml"

LLM = Client(
    "llm",
    Install("llm", "pypi", ("llm==0.36",)),
    ("env", "LLM_USER_PATH=.", "@INSTALL@/bin/llm", "-m", "gemini", "--no-stream", "@PROMPT@"),
)
AIDER = Client(
    "aider",
    Install("aider", "pypi", ("aider-chat==0.86.2",)),
    (
        *(
            "@INSTALL@/bin/aider",
            "--message",
            "@PROMPT@",
            "--no-git",
            "--yes-always",
            "--no-stream",
        ),
        *(
            "--no-check-update",
            "--no-show-model-warnings",
            "--no-show-release-notes",
            "--map-tokens",
            "0",
        ),
    ),
)
GPTME = Client(
    "gptme",
    Install("gptme", "pypi", ("gptme==0.35.1",)),
    ("@INSTALL@/bin/gptme", "--non-interactive", "--no-confirm", "--tools", "none", "@PROMPT@"),
)
SGPT = replace(SHELL_GPT, argv=("@INSTALL@/bin/sgpt", "--no-cache", "@PROMPT@"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two empty folders."""
    found = tmp_path / "with", tmp_path / "without"
    for folder in found:
        folder.mkdir()
    return found


@pytest.mark.parametrize("client", [AIDER, GPTME, SGPT], ids=lambda client: client.name)
def test_the_tools_own_variable_names_the_model(client: Client, folders: tuple[Path, Path]) -> None:
    """Without `--client` the tool asks for a model that Vertex AI does not have: the control."""
    settings = {"VERTEX_ENV_MODEL": MODEL}
    driven = drive(client, {**settings, "VERTEX_ENV_CLIENT": client.name}, folders[0])
    assert (driven.answered, driven.leaks) == (True, []), driven
    without = drive(client, settings, folders[1])
    assert not without.answered, without


def test_llm_as_the_readme_has_it(folders: tuple[Path, Path]) -> None:
    """Its key comes from the variables. Without `api_key_name` it sends none: the control."""
    found = re.search(r"`(- \{model_id: .*\})`", (ROOT / "README.md").read_text())
    assert found is not None
    entry = found[1].replace("URL", URL)
    driven = drive(replace(LLM, files={FILE: entry}), {}, folders[0])
    assert (driven.answered, driven.leaks) == (True, []), driven
    bare = entry.replace(", api_key_name: vertex", "")
    assert bare != entry
    assert not drive(replace(LLM, files={FILE: bare}), {}, folders[1]).answered
