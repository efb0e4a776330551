"""`session`: which credentials are found, whose token that is, and where it is sent."""

import ast
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import loopback as google
from tests.support.answers import Answers, Reply
from tests.support.fakes import PLANTED
from tests.support.loopback import Info, write_adc
from tests.test_quality import code_lines
from vertex_env.credentials import metadata
from vertex_env.credentials.certificates import certificate_files
from vertex_env.errors import CredentialsError, SettingsError, UnavailableError
from vertex_env.session import Session, open_session
from vertex_env.settings.inputs import Inputs

TARGET = "target@sandbox-project.iam.gserviceaccount.com"
OTHER = "other@sandbox-project.iam.gserviceaccount.com"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder; this process asks loopback directly, whatever the machine has set."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    home = tmp_path / "home"
    home.mkdir()
    return home


def session(home: Path, options: Mapping[str, Any] | None = None, /, **environ: str) -> Session:
    """A session with *options* and *environ*, in a home folder; what it warns of is not expected."""
    variables = {"HOME": str(home), "NO_GCE_CHECK": "true", **environ}
    return open_session(options or {}, Inputs(variables), lambda: datetime.now(UTC), pytest.fail)


def well_known(home: Path) -> Path:
    return home / ".config" / "gcloud" / "application_default_credentials.json"


def logged_in(home: Path, **changed: object) -> None:
    write_adc(well_known(home), google.authorized_user() | changed)


# --- which credentials ---


def test_search_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option first, then our variable, the profile, Google's variable and at last gcloud's own file."""
    monkeypatch.chdir(home)
    places = {
        name: write_adc(home / name, google.authorized_user()) for name in ("o", "v", "p", "g")
    }
    logged_in(home)
    config = home / ".config" / "vertex-env" / "config.toml"
    config.parent.mkdir()
    config.write_text('default-profile = "x"\n[profile.x]\ncredentials = "../../p"\n')
    options = {"credentials": "o"}
    environ = {"VERTEX_ENV_CREDENTIALS": "~/v", "GOOGLE_APPLICATION_CREDENTIALS": str(places["g"])}
    found = [session(home, options, **environ).adc.source]
    found.append(session(home, **environ).adc.source)
    del environ["VERTEX_ENV_CREDENTIALS"]
    found.append(session(home, **environ).adc.source)
    config.unlink()
    found.append(session(home, **environ).adc.source)
    del environ["GOOGLE_APPLICATION_CREDENTIALS"]
    found.append(session(home, **environ).adc.source)
    assert found == [
        "o (from --credentials)",
        f"{places['v']} (from VERTEX_ENV_CREDENTIALS)",
        f"{config.parent}/../../p (from {config}:3)",
        f"{places['g']} (from GOOGLE_APPLICATION_CREDENTIALS)",
        f"{well_known(home)} (from gcloud's well-known place)",
    ]


def test_cloudsdk_config(home: Path) -> None:
    """gcloud's folder can be elsewhere."""
    logged_in(home)
    other = write_adc(
        home / "work" / "application_default_credentials.json", google.service_account()
    )
    found = session(home, CLOUDSDK_CONFIG=str(home / "work")).adc
    assert (found.kind, found.source) == (
        "service_account",
        f"{other} (from gcloud's well-known place)",
    )


def test_a_named_file_is_not_replaced(home: Path) -> None:
    """A variable that leads nowhere is an error, though there is a login: somebody means another account."""
    logged_in(home)
    with pytest.raises(
        CredentialsError, match=r"nowhere \(from GOOGLE_APPLICATION_CREDENTIALS\) does not exist"
    ):
        session(home, GOOGLE_APPLICATION_CREDENTIALS="/nowhere")


def test_settings_before_credentials(home: Path) -> None:
    """A wrong setting is told before a missing login."""
    with pytest.raises(SettingsError, match="project 'x!' from VERTEX_ENV_PROJECT is not valid"):
        session(home, VERTEX_ENV_PROJECT="x!")


EMAIL = "/computeMetadata/v1/instance/service-accounts/default/email"
ROBOT = Reply(body="robot@p.iam.gserviceaccount.com", headers={"Metadata-Flavor": "Google"})


def test_metadata_server_last(home: Path) -> None:
    """The machine's account comes after a login; without one it is taken."""
    with Answers({EMAIL: ROBOT}) as answers:
        environ = {"NO_GCE_CHECK": "", "GCE_METADATA_HOST": answers.url.removeprefix("http://")}
        assert session(home, **environ).adc.kind == "metadata"
        logged_in(home)
        assert session(home, **environ).adc.kind == "authorized_user"


@pytest.fixture
def somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not know whether it is Google's."""
    monkeypatch.setattr(
        metadata, "is_certain", lambda environ: bool(environ.get("GCE_METADATA_HOST"))
    )


POD = {"NO_GCE_CHECK": "", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
"""Where a metadata server may be, and need not."""


@pytest.mark.usefixtures("somewhere")
def test_no_metadata_server_is_remembered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has none is asked once; one that is named is asked every time."""
    with Answers() as answers:
        host = answers.url.removeprefix("http://")
        monkeypatch.setattr(metadata, "_ADDRESS", host)
        for _ in range(3):
            with pytest.raises(CredentialsError, match="no metadata server"):
                session(home, **POD)
        assert len(answers.asked) == 1
        answers.routes[EMAIL] = ROBOT
        assert session(home, **POD, GCE_METADATA_HOST=host).adc.kind == "metadata"


@pytest.mark.usefixtures("somewhere")
def test_another_machine_has_its_own_memory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was remembered elsewhere, in a home folder on the network, or before a reboot, does not count."""
    with Answers() as answers:
        monkeypatch.setattr(metadata, "_ADDRESS", answers.url.removeprefix("http://"))
        for boot in ("first", "first", "second"):
            monkeypatch.setattr("vertex_env.program.machine", lambda boot=boot: boot)
            with pytest.raises(CredentialsError):
                session(home, **POD)
    assert len(answers.asked) == 2


@pytest.mark.usefixtures("somewhere")
def test_black_hole(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where packets to the address vanish, that costs a second once, not twelve each time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(metadata, "_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        took = []
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(CredentialsError):
                session(home, **POD)
            took.append(time.monotonic() - started)
    assert took[0] < 1.5
    assert took[1] < 0.1


# --- whose token ---


def key(home: Path, options: Mapping[str, Any] | None = None, /, **environ: str) -> str:
    return session(home, options, **environ).identity.key


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"scope": ["openid"]}, id="scope"),
        pytest.param({"scope": ["openid", "email"]}, id="scopes"),
        pytest.param({"impersonate": TARGET}, id="impersonate"),
        pytest.param({"impersonate": OTHER}, id="impersonate another"),
        pytest.param({"impersonate": f"{OTHER},{TARGET}"}, id="delegate"),
        pytest.param({"impersonate": TARGET, "lifetime": "2h"}, id="lifetime"),
        pytest.param({"impersonate": TARGET, "lifetime": "3h"}, id="another lifetime"),
        pytest.param({"quota_project": "quota-project"}, id="quota project"),
    ],
)
def test_options_that_make_another_identity(options: dict[str, Any], home: Path) -> None:
    """Each changes what the token is good for, so each has a token of its own."""
    logged_in(home)
    everything: list[dict[str, Any]] = [
        {},
        {"scope": ["openid"]},
        {"scope": ["openid", "email"]},
        {"impersonate": TARGET},
        {"impersonate": OTHER},
        {"impersonate": f"{OTHER},{TARGET}"},
        {"impersonate": TARGET, "lifetime": "2h"},
        {"impersonate": TARGET, "lifetime": "3h"},
        {"quota_project": "quota-project"},
    ]
    same = [one for one in everything if key(home, one) == key(home, options)]
    assert same == [options]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"project": "other-project"}, id="project"),
        pytest.param({"location": "europe-west4"}, id="location"),
        pytest.param({"model": "google/gemini-2.5-pro"}, id="model"),
        pytest.param({"min_ttl": "10m"}, id="min-ttl"),
        pytest.param({"client": ["goose"]}, id="client"),
        pytest.param({"scope": ["cloud-platform"]}, id="the default scope by name"),
        pytest.param({"store": "none"}, id="store"),
    ],
)
def test_options_that_do_not(options: dict[str, Any], home: Path) -> None:
    """The token is good for every project, location and model, so that one is shared."""
    logged_in(home)
    assert key(home, options) == key(home)


def test_quota_project_of_the_file(home: Path) -> None:
    """The file's quota project counts, and the variable before it."""
    logged_in(home, quota_project_id="quota-of-file")
    assert session(home).identity.quota_project == "quota-of-file"
    assert (
        session(home, GOOGLE_CLOUD_QUOTA_PROJECT="quota-of-variable").identity.quota_project
        == "quota-of-variable"
    )


def test_universe(home: Path) -> None:
    """Another universe is another identity, with hosts of its own."""
    write_adc(well_known(home), google.service_account() | {"universe_domain": "s3nsapis.fr"})
    found = session(home)
    assert found.identity.universe == "s3nsapis.fr"
    assert found.urls.root == "https://aiplatform.s3nsapis.fr"


@pytest.mark.parametrize(
    ("info", "audience"),
    [
        pytest.param(google.authorized_user(), None, id="user"),
        pytest.param(
            google.gdch_service_account("http://127.0.0.1:9"),
            "https://vertex.example.com",
            id="gdch",
        ),
    ],
)
def test_audience(info: Info, audience: str | None, home: Path) -> None:
    """An air-gapped cloud is told for which service the token is."""
    write_adc(well_known(home), info)
    options = {"base_url": "https://vertex.example.com/v1/x", "allow_host": ["vertex.example.com"]}
    assert session(home, options).identity.audience == audience


def test_lifetime_needs_an_account_to_impersonate(home: Path) -> None:
    """A user's token lives for an hour, whatever is asked for."""
    logged_in(home)
    with pytest.raises(SettingsError) as caught:
        _ = session(home, {"lifetime": "12h"}).identity
    assert caught.value.message == (
        "lifetime from --lifetime needs a service account to impersonate: only then can it be chosen"
    )
    assert caught.value.hint == "add --impersonate ACCOUNT, or leave --lifetime out"


# --- the token ---


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers() as answers:
        yield answers


def with_key(home: Path, answers: Answers) -> None:
    """Log in with a key that is exchanged at *answers*."""
    write_adc(well_known(home), google.service_account(answers.url))


def test_one_token_for_all(home: Path, answers: Answers) -> None:
    """Within a session, and for the next one, the same token serves; `refresh` asks for another."""
    with_key(home, answers)
    answers.routes["/token"] = [
        Reply(body={"access_token": f"ya29.{number}", "expires_in": 3599}) for number in range(3)
    ]
    first = session(home)
    assert [first.token().value for _ in range(3)] == ["ya29.0"] * 3
    assert session(home).token().value == "ya29.0"
    assert first.token(refresh=True).value == "ya29.1"
    assert first.token().value == "ya29.1"
    assert session(home).token().value == "ya29.1"
    assert len(answers.asked) == 2


def test_store_none(home: Path, answers: Answers) -> None:
    """Nothing is kept, so that each session asks."""
    with_key(home, answers)
    for _ in range(2):
        assert session(home, {"store": "none"}).token().value == PLANTED
    assert len(answers.asked) == 2
    assert not (home / ".cache").exists()


def test_offline(home: Path, answers: Answers) -> None:
    """With Google out of reach a stored token that is due serves on, with a warning, until its last minute."""
    with_key(home, answers)
    answers.routes["/token"] = [
        Reply(body={"access_token": PLANTED, "expires_in": 3600}),
        Reply(502),
    ]
    environ = {"HOME": str(home), "NO_GCE_CHECK": "true"}
    start, said = datetime.now(UTC), []  # type: datetime, list[str]

    def token(age_s: float) -> str:
        now = start + timedelta(seconds=age_s)
        return open_session({}, Inputs(environ), lambda: now, said.append).token().value

    assert [token(0), token(3290)] == [PLANTED] * 2
    assert said == []
    assert token(3400) == PLANTED
    (warning,) = said
    host = answers.url.removeprefix("http://")
    left = r"(?:199|20[0-9]) s"
    assert re.fullmatch(
        f"{host} answered 502; using the stored token, which lasts {left} more", warning
    )
    with pytest.raises(UnavailableError):
        token(3545)


# --- where it is sent ---

PARENT = "projects/my-project/locations"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        pytest.param(
            {},
            f"https://aiplatform.googleapis.com/v1/{PARENT}/global/endpoints/openapi",
            id="default",
        ),
        pytest.param(
            {"location": "eu"},
            f"https://aiplatform.eu.rep.googleapis.com/v1/{PARENT}/eu/endpoints/openapi",
            id="multi-region",
        ),
        pytest.param(
            {"location": "europe-west4", "api_version": "v1beta1"},
            f"https://europe-west4-aiplatform.googleapis.com/v1beta1/{PARENT}/europe-west4/endpoints/openapi",
            id="region and version",
        ),
        pytest.param(
            {"api": "responses"},
            f"https://aiplatform.googleapis.com/v1/{PARENT}/global/publishers/openai/v1",
            id="responses",
        ),
        pytest.param(
            {"base_url": "https://psc.p.googleapis.com/v1/x/"},
            "https://psc.p.googleapis.com/v1/x",
            id="verbatim",
        ),
        pytest.param(
            {"base_url": "https://llm.example.com", "allow_host": ["llm.example.com"]},
            "https://llm.example.com",
            id="allowed",
        ),
        pytest.param(
            {"base_url": "https://psc.p.googleapis.com/v1/x", "endpoint": "123"},
            "https://psc.p.googleapis.com/v1/x",
            id="verbatim, and an endpoint, which is not asked for",
        ),
    ],
)
def test_base_url(options: dict[str, Any], url: str, home: Path) -> None:
    """Nothing is asked of Google for these, not even a token."""
    logged_in(home)
    assert session(home, {"project": "my-project", **options}).target().base_url == url


@pytest.mark.parametrize("model", ["google/gemini-2.5-flash", "meta/llama-3.3-70b-instruct-maas"])
def test_a_model_without_the_responses_api(home: Path, model: str) -> None:
    """Said before a token is minted; OpenAI's own models and the chat API are the control."""
    logged_in(home)
    options = {"project": "my-project", "api": "responses", "model": model}
    with pytest.raises(SettingsError) as e:
        session(home, options).target()
    assert f"model {model!r} from --model has no Responses API" in e.value.message
    assert "OpenAI's own models" in e.value.message
    assert e.value.hint == "--api chat serves this model"
    for change in ({"api": "chat"}, {"model": "openai/gpt-5"}, {"model": "gpt-5"}):
        assert "/my-project/" in session(home, {**options, **change}).target().base_url


# --- a base URL without credentials ---


def url(home: Path, options: Mapping[str, Any], **environ: str) -> str:
    """What `vertex-env url` prints."""
    variables = {"HOME": str(home), "NO_GCE_CHECK": "true", **environ}
    found = open_session(
        options, Inputs(variables), lambda: datetime.now(UTC), pytest.fail, anonymous=True
    )
    return found.target().base_url


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        ({"project": "my-project"}, {}),
        ({}, {"GOOGLE_CLOUD_PROJECT": "my-project"}),
        ({"project": "my-project"}, {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such/file.json"}),
    ],
)
def test_a_url_needs_no_credentials(
    home: Path, options: dict[str, str], environ: dict[str, str]
) -> None:
    """Where the settings have the project; everything else does need them, which is the control."""
    expected = f"https://aiplatform.googleapis.com/v1/{PARENT}/global/endpoints/openapi"
    assert url(home, options, **environ) == expected
    given = {"base_url": expected, "endpoint": "123"}
    assert url(home, given) == expected
    with pytest.raises(CredentialsError):
        session(home, options, **environ)


@pytest.mark.parametrize(
    "options", [{}, {"project": "my-project", "endpoint": "123", "location": "us-central1"}]
)
def test_a_url_that_only_credentials_can_give(home: Path, options: dict[str, str]) -> None:
    """The project may be theirs, and an endpoint's host is known to Google only."""
    with pytest.raises(CredentialsError) as e:
        url(home, options)
    assert "there are no Application Default Credentials" in e.value.message


def test_a_url_of_the_credentials(home: Path) -> None:
    """Their project and universe count where there are some, and a broken file is told as ever."""
    write_adc(well_known(home), {**google.service_account(), "universe_domain": "example.cloud"})
    assert url(home, {}).startswith("https://aiplatform.example.cloud/v1/projects/sandbox-project/")
    assert url(home, {"project": "my-project"}).startswith(
        "https://aiplatform.example.cloud/v1/projects/my-project/"
    )
    well_known(home).write_text("{")
    with pytest.raises(CredentialsError):
        url(home, {"project": "my-project"})


def test_gclouds_override(home: Path) -> None:
    """gcloud's own variable names a private host for every location."""
    logged_in(home)
    environ = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": "https://aiplatform-psc.p.googleapis.com/"
    }
    found = session(home, {"project": "my-project", "location": "us"}, **environ)
    assert (
        found.target().base_url
        == f"https://aiplatform-psc.p.googleapis.com/v1/{PARENT}/us/endpoints/openapi"
    )
    assert found.urls.root_for("asia-east1") == "https://aiplatform-psc.p.googleapis.com"


def test_project_of_a_key(home: Path) -> None:
    """A key knows its project; every setting comes before it."""
    write_adc(well_known(home), google.service_account())
    assert session(home).urls.project == "sandbox-project"
    assert session(home, GOOGLE_CLOUD_PROJECT="my-project").urls.project == "my-project"


@pytest.mark.parametrize(
    ("options", "environ", "message", "hint"),
    [
        pytest.param(
            {},
            {"GOOGLE_CLOUD_QUOTA_PROJECT": "quota-project"},
            "no project is set: not by --project, VERTEX_ENV_PROJECT, a profile, GOOGLE_CLOUD_PROJECT or gcloud",
            "add --project ID, or run: gcloud config set project ID",
            id="no project, but one for quota",
        ),
        pytest.param(
            {"project": "my-project", "endpoint": "123"},
            {},
            "endpoint '123' from --endpoint is in some region, but location is 'global' (default)",
            "add --location REGION; vertex-env endpoints --all-locations shows which",
            id="endpoint without a region",
        ),
        pytest.param(
            {"project": "my-project", "endpoint": "123", "api": "responses"},
            {"GOOGLE_CLOUD_LOCATION": "us-central1"},
            "a self-deployed endpoint has the chat API only",
            "leave --api or --endpoint out",
            id="endpoint with another API",
        ),
        pytest.param(
            {"project": "my-project"},
            {"VERTEX_ENV_MODEL": "gemini-2.5-flash"},
            "model 'gemini-2.5-flash' from VERTEX_ENV_MODEL has no publisher",
            "did you mean google/gemini-2.5-flash?",
            id="model without a publisher",
        ),
        pytest.param(
            {"base_url": "https://aiplatform.googleapis.com/v1/chat/completions"},
            {},
            "the base URL from --base-url ends in an API's path",
            "leave /chat/completions out: clients add it",
            id="base URL too long",
        ),
        pytest.param(
            {"base_url": "https://evil.example.com/v1"},
            {},
            "the base URL from --base-url would send the access token to 'evil.example.com', "
            "which is not a Google host",
            "if that host is yours and meant, add --allow-host evil.example.com",
            id="base URL elsewhere",
        ),
        pytest.param(
            {"project": "my-project"},
            {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": "https://evil.example.com/"},
            "the API endpoint from CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM would send the access token to "
            "'evil.example.com', which is not a Google host",
            "if that host is yours and meant, add --allow-host evil.example.com",
            id="override elsewhere",
        ),
        pytest.param(
            {"project": "my-project", "impersonate": TARGET},
            {"CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": "https://evil.example.com/"},
            "the IAM endpoint from CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS would send the access token to "
            "'evil.example.com', which is not a Google host",
            "if that host is yours and meant, add --allow-host evil.example.com",
            id="IAM override elsewhere",
        ),
    ],
)
def test_contradictions(
    options: dict[str, Any],
    environ: dict[str, str],
    message: str,
    hint: str,
    home: Path,
    answers: Answers,
) -> None:
    """What is wrong with the settings is told before a token is minted."""
    with_key(home, answers)
    info = json.loads(well_known(home).read_text())
    del info["project_id"]
    write_adc(well_known(home), info)
    with pytest.raises(SettingsError) as caught:
        session(home, options, **environ).environment()
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert answers.asked == []


@pytest.mark.parametrize(
    ("damage", "asked"),
    [
        pytest.param(lambda note: note, 0, id="none"),
        pytest.param(lambda note: note.unlink(), 1, id="gone"),
        pytest.param(lambda note: note.write_text("{"), 1, id="no JSON"),
        pytest.param(lambda note: note.write_text("[]"), 1, id="another shape"),
        pytest.param(lambda note: note.chmod(0o644), 1, id="others may read it"),
    ],
)
def test_remembered_endpoint(
    damage: Callable[[Path], object], asked: int, home: Path, answers: Answers
) -> None:
    """Where an endpoint is, is remembered; a damaged memory is none."""
    with_key(home, answers)
    parent = "projects/my-project/locations/us-central1/endpoints"
    answers.routes[f"/v1/{parent}/123"] = Reply(body={"name": f"{parent}/123"})
    options = {
        "project": "my-project",
        "location": "us-central1",
        "endpoint": "123",
        "allow_host": ["127.0.0.1"],
    }
    environ = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": answers.url}
    session(home, options, **environ).target()
    (note,) = (home / ".cache" / "vertex-env").glob("endpoint-*.note")
    damage(note)
    before = len(answers.asked)
    assert session(home, options, **environ).target().base_url == f"{answers.url}/v1/{parent}/123"
    assert len(answers.asked) - before == asked


def test_a_metadata_server_that_is_named_but_silent(home: Path) -> None:
    """Somebody says that there is one: to try again may help, to log in need not."""
    with pytest.raises(UnavailableError, match="the metadata server does not answer"):
        session(home, NO_GCE_CHECK="", GCE_METADATA_HOST="127.0.0.1:9")


def test_gcloud_s_folder_behind_a_file(home: Path) -> None:
    """What cannot be looked at is not there."""
    (home / "file").write_text("")
    with pytest.raises(CredentialsError, match="there are no Application Default Credentials"):
        session(home, CLOUDSDK_CONFIG=str(home / "file" / "gcloud"))


# --- the environment that was handed in ---

PACKAGE = Path(__file__).parent.parent / "vertex_env"
STARTS = ("entry.py", "api.py", "cli/", "run/", "sandbox/")
"""Where a process starts, or starts another: these take the process's own environment."""

READS_ITS_OWN = {"program.py": 2}
"""`is_linux` looks for a switch of the tests', `machine` for Windows' COMPUTERNAME: neither is a setting."""


def reads_of_the_process(text: str) -> int:
    """How often *text*, a module, has `os.environ` or `os.getenv`."""
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)]
    return sum(ast.unparse(node) in ("os.environ", "os.getenv", "os.environb") for node in names)


def test_no_module_takes_another_environment_than_the_one_it_was_given() -> None:
    """Below the places where a process starts, the environment is an argument."""
    assert reads_of_the_process("import os\nx = os.environ['HOME']\ny = os.getenv('HOME')\n") == 2
    paths = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    found = {name: reads_of_the_process(path.read_text()) for name, path in paths.items()}
    assert {
        n: count for n, count in found.items() if count and not n.startswith(STARTS)
    } == READS_ITS_OWN


@pytest.mark.parametrize("given", [True, False])
def test_a_certificate_is_looked_for_in_the_home_that_was_given(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, given: bool
) -> None:
    """`~` is the given environment's HOME; without one it is the process's, which is the control."""
    folders = {name: home / name / ".config" / "gcloud" for name in ("given", "process")}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        workload = {"cert_path": f"/{name}.pem", "key_path": "/key.pem"}
        (folder / "certificate_config.json").write_text(
            json.dumps({"cert_configs": {"workload": workload}})
        )
    monkeypatch.setenv("HOME", str(home / "process"))
    source = {"certificate": {"use_default_certificate_config": True}}
    environ = {"HOME": str(home / "given")} if given else {}
    name = "given" if given else "process"
    config = folders[name] / "certificate_config.json"
    assert certificate_files(source, environ) == (config, Path(f"/{name}.pem"))


# --- what was looked at ---


def test_inputs_keep_the_first_look_at_a_file(tmp_path: Path) -> None:
    """A file that changes between two looks is told; one that stays is the control."""
    changes, stays = tmp_path / "changes", tmp_path / "stays"
    stays.touch()
    os.utime(stays, (1, 1))
    inputs = Inputs({})
    inputs.started += 60  # a file made in this very moment counts as changed
    inputs.saw(stays, changes, None)
    found = [inputs.are_as_they_were]
    changes.touch()
    inputs.saw(stays, changes)
    found += [inputs.are_as_they_were, inputs.are_anywhere_the_same]
    inputs.saw(Path("relative"))
    found.append(inputs.are_anywhere_the_same)
    assert found == [True, False, True, False]
    assert list(inputs.files) == [stays, changes, Path("relative")]


def test_inputs_hold_until_the_first_fact_ends() -> None:
    """The earliest instant counts; 0 is a fact without an end."""
    inputs, found = Inputs({}), []  # type: Inputs, list[float]
    for instant in (0, 20, 0, 10, 30):
        inputs.holds_until(instant)
        found.append(inputs.until)
    assert found == [0, 20, 20, 10, 10]


def test_inputs_name_variables_and_rules() -> None:
    """A value that is looked at is named; one that is only judged has its rule; the rest is not recorded."""
    inputs = Inputs({"A": "1", "OPENAI_BASE_URL": "https://llm.example.com", "B": "2"})
    assert (inputs.environ.get("A"), inputs.environ.get("NONE")) == ("1", None)
    assert inputs.environ.keeps("OPENAI_BASE_URL", "url")
    assert inputs.environ.unwatched["B"] == "2"
    assert inputs.names == ["A", "NONE", "url OPENAI_BASE_URL"]


def test_session_composes_and_nothing_else() -> None:
    """What is more than that has a room of its own."""
    assert code_lines(PACKAGE / "session.py") < 200
