"""`endpoints`: listing self-deployed endpoints and finding one; in memory, then over HTTP, then end to end."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import loopback as google
from tests.support.answers import Answers, Handler, Reply, Route
from tests.support.fakes import PLANTED
from tests.support.loopback import Completed, GoogleProxy, clean_environ, run_cli, write_adc
from vertex_env.errors import RefusedError, SettingsError, UnavailableError
from vertex_env.sandbox.server import Sandbox
from vertex_env.vertex import endpoints
from vertex_env.vertex.endpoints import (
    Endpoint,
    Get,
    find_endpoint,
    http_get,
    list_endpoints,
    list_locations,
)
from vertex_env.vertex.refusals import Who

ROOT = "https://us-central1-aiplatform.googleapis.com/v1"
PARENT = "projects/p/locations/us-central1"
WHO = Who("authorized_user", None, "adc.json (from a test)")


def item(number: str, name: object = "x", **more: object) -> dict[str, object]:
    return {
        "name": f"projects/1/locations/us-central1/endpoints/{number}",
        "displayName": name,
        **more,
    }


class FakeApi:
    """A `Get` that knows *pages* of a list, and single endpoints by ID; it keeps the questions."""

    def __init__(
        self, pages: Sequence[Mapping[str, object]] = (), **single: Mapping[str, object]
    ) -> None:
        self.pages, self.single = list(pages), single
        self.asked: list[tuple[str, dict[str, str]]] = []

    def __call__(self, url: str, query: Mapping[str, str]) -> Mapping[str, Any] | None:
        self.asked.append((url, dict(query)))
        last = url.rpartition("/")[2]
        if last in ("endpoints", "locations"):
            return self.pages[int(query.get("pageToken", "0"))] if self.pages else None
        return self.single.get(last)


# --- in memory ---


def test_fields() -> None:
    """What is taken from Google's answer."""
    host = "2.us-central1-1.prediction.vertexai.goog"
    models = [
        {"displayName": "llama", "model": "projects/1/models/5"},
        {"model": "projects/1/models/6"},
        {},
    ]
    page = {
        "endpoints": [
            item("1", "one"),
            item("2", "two", dedicatedEndpointDns=host, deployedModels=models),
        ]
    }
    assert list(list_endpoints(FakeApi([page]), ROOT, PARENT)) == [
        Endpoint("1", "one", "us-central1", (), None),
        Endpoint("2", "two", "us-central1", ("llama", "projects/1/models/6", "?"), host),
    ]


def test_pages() -> None:
    """Every page is asked for, with the token of the one before; one page may be empty."""
    first: dict[str, object] = {"endpoints": [item("1")], "nextPageToken": "1"}
    api = FakeApi([first, {"nextPageToken": "2"}, {"endpoints": [item("3")]}])
    assert [found.id for found in list_endpoints(api, ROOT, PARENT)] == ["1", "3"]
    assert api.asked == [
        (f"{ROOT}/{PARENT}/endpoints", {"pageSize": "100"}),
        (f"{ROOT}/{PARENT}/endpoints", {"pageSize": "100", "pageToken": "1"}),
        (f"{ROOT}/{PARENT}/endpoints", {"pageSize": "100", "pageToken": "2"}),
    ]


@pytest.mark.parametrize("token", ["0", 5, None, ["x"], ""])
def test_page_token_that_leads_nowhere(token: object) -> None:
    """A list that points at itself ends, and so does one with a token that is none."""
    api = FakeApi([{"endpoints": [item("1")], "nextPageToken": token}])
    assert len(list(list_endpoints(api, ROOT, PARENT))) <= 2
    assert len(api.asked) <= 2


@pytest.mark.parametrize(
    "endpoints",
    [None, {}, "x", 5, [None, 5, "x", []]],
    ids=["null", "object", "text", "number", "list of others"],
)
def test_list_of_a_wrong_type(endpoints: object) -> None:
    """What is no endpoint is passed over."""
    assert list(list_endpoints(FakeApi([{"endpoints": endpoints}]), ROOT, PARENT)) == []


@pytest.mark.parametrize(
    "name",
    [
        None,
        5,
        "",
        "x",
        "projects/1/locations/us-central1/endpoints/",
        "projects/1/locations/us-central1/endpoints/1/../..",
        "projects/1/locations/us-central1@evil/endpoints/1",
        "projects/1/locations/us-central1/endpoints/\x1b[31m",
        "projects/1/locations/us-central1/endpoints/" + "1" * 10_000,
    ],
)
def test_resource_name_that_is_none(name: object) -> None:
    """An ID enters URLs, so it has to look like one; what it was instead is told in one line."""
    with pytest.raises(UnavailableError) as caught:
        list(list_endpoints(FakeApi([{"endpoints": [{"name": name}]}]), ROOT, PARENT))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def test_locations() -> None:
    """Regions only, in order; what does not look like one is left out."""
    names = ["us-central1", "global", "asia-east1", "evil.example/", "us-central1", "", None, 5]
    pages = [{"locations": [{"locationId": name} for name in names] + [{}]}]
    assert list_locations(FakeApi(pages), ROOT, "p") == ["asia-east1", "us-central1"]


@pytest.mark.parametrize(
    ("wanted", "id_", "questions"),
    [
        pytest.param("123", "123", 1, id="a number"),
        pytest.param("mg-endpoint-1a2b", "mg-endpoint-1a2b", 1, id="an ID with letters"),
        pytest.param("my endpoint", "1", 1, id="a name"),
        pytest.param("gemma", "2", 2, id="a name that looks like an ID"),
        pytest.param("456", "3", 2, id="a name of digits"),
        pytest.param("Ümläut", "4", 1, id="a name with umlauts"),
    ],
)
def test_find(wanted: str, id_: str, questions: int) -> None:
    """By ID with one question; by display name with the list, after asking for the ID that it could be."""
    listed = [item("1", "my endpoint"), item("2", "gemma"), item("3", "456"), item("4", "Ümläut")]
    single = {name: item(name, "gemma") for name in ("123", "mg-endpoint-1a2b")}
    api = FakeApi([{"endpoints": listed}], **single)
    assert find_endpoint(api, ROOT, PARENT, wanted).id == id_
    assert len(api.asked) == questions


def test_id_before_name() -> None:
    """A display name cannot stand in front of somebody's ID."""
    api = FakeApi([{"endpoints": [item("2", "123")]}], **{"123": item("123", "honest")})
    assert find_endpoint(api, ROOT, PARENT, "123").name == "honest"


def test_ambiguous_name() -> None:
    """Display names are not unique: the IDs are told, to choose from."""
    listed = [item(str(number), "twin") for number in range(8)]
    with pytest.raises(SettingsError) as caught:
        find_endpoint(FakeApi([{"endpoints": listed}]), ROOT, PARENT, "twin")
    assert caught.value.message == f"8 endpoints in {PARENT} are called 'twin'"
    assert caught.value.hint == "name one by its ID: 0, 1, 2, 3, 4"


@pytest.mark.parametrize(
    ("listed", "hint"),
    [
        pytest.param([], "it may be elsewhere: vertex-env endpoints --all-locations", id="none"),
        pytest.param(
            [item("1", "one"), item("2", "two")], "endpoints there: 1 (one), 2 (two)", id="others"
        ),
        pytest.param(
            [item("1", "\x1b[31mone\nvertex-env: hint: x")],
            "endpoints there: 1 ([31mone vertex-env: hint: x)",
            id="hostile",
        ),
        pytest.param([item("1", ["x"])], "endpoints there: 1 (['x'])", id="a wrong type"),
        pytest.param(
            [item(str(n), "n") for n in range(9)],
            "endpoints there: 0 (n), 1 (n), 2 (n), 3 (n), 4 (n)",
            id="many",
        ),
    ],
)
def test_unknown_name(listed: list[dict[str, object]], hint: str) -> None:
    """What there is instead, so far as it can be shown on a line."""
    with pytest.raises(SettingsError) as caught:
        find_endpoint(FakeApi([{"endpoints": listed}]), ROOT, PARENT, "nobody")
    assert (caught.value.message, caught.value.hint) == (
        f"there is no endpoint 'nobody' in {PARENT}",
        hint,
    )


def test_names_that_only_differ_in_case() -> None:
    """Case matters, as it does at Google."""
    with pytest.raises(SettingsError, match="there is no endpoint 'Gemma'"):
        find_endpoint(FakeApi([{"endpoints": [item("1", "gemma")]}]), ROOT, PARENT, "Gemma")


# --- over HTTP ---


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


def test_request() -> None:
    """The token is in the header and nowhere else; the quota project as Google wants it."""
    with Answers({"/x": Reply(body={"a": 1})}) as answers:
        assert http_get(PLANTED, WHO, "quota-project", 10)(
            f"{answers.url}/x", {"pageSize": "1"}
        ) == {"a": 1}
    (asked,) = answers.asked
    assert asked.fields == {"pageSize": "1"}
    assert asked.headers["Authorization"] == f"Bearer {PLANTED}"
    assert asked.headers["x-goog-user-project"] == "quota-project"


def test_no_quota_project() -> None:
    """Without one, Google bills the caller's own."""
    with Answers({"/x": Reply(body={})}) as answers:
        http_get(PLANTED, WHO, None, 10)(f"{answers.url}/x", {})
    assert "x-goog-user-project" not in answers.asked[0].headers


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        pytest.param(
            Reply(200, "<html>"),
            UnavailableError,
            "{host} answered with something that is not JSON",
            id="HTML",
        ),
        pytest.param(
            Reply(200, [1]),
            UnavailableError,
            "{host} answered with something that is not JSON",
            id="list",
        ),
        pytest.param(
            Reply(200, b"[" * 100_000),
            UnavailableError,
            "{host} answered with something that is not JSON",
            id="deep",
        ),
        pytest.param(
            Reply(302, "", {"Location": "http://127.0.0.1:9/"}),
            UnavailableError,
            "{host} answered 302, but with nothing that can be used",
            id="redirect",
        ),
        pytest.param(
            Reply(404, "<html>"), RefusedError, "{host} answered 404 to {who}", id="404 HTML"
        ),
        pytest.param(
            Reply(403, {"error": {"message": PLANTED}}),
            RefusedError,
            "{host} refused {who}: [hidden]",
            id="403",
        ),
        pytest.param(
            Reply(429, {"error": {"message": "Slow down."}}),
            UnavailableError,
            "{host} answered 429, too many requests: Slow down",
            id="429",
        ),
        pytest.param(Reply(503, "busy"), UnavailableError, "{host} answered 503", id="503"),
    ],
)
def test_failures(reply: Reply, kind: type[Exception], message: str) -> None:
    """Each is told with the host, and the token stays out of it."""
    with Answers({"/x": reply}) as answers:
        host = answers.url.removeprefix("http://")
        with pytest.raises(kind) as caught:
            http_get(PLANTED, WHO, None, 10)(f"{answers.url}/x", {})
    assert str(caught.value) == message.format(host=host, who=WHO)
    assert len(answers.asked) == 1


def test_not_found() -> None:
    """Google's 404 is an answer: there is none."""
    with Answers({"/x": Reply(404, {"error": {"code": 404}})}) as answers:
        assert http_get(PLANTED, WHO, None, 10)(f"{answers.url}/x", {}) is None


def test_nobody_there() -> None:
    """No connection is told as for tokens."""
    with pytest.raises(
        UnavailableError, match=r"cannot reach 127\.0\.0\.1:9: the connection was refused"
    ):
        http_get(PLANTED, WHO, None, 10)("http://127.0.0.1:9/x", {})


# --- end to end ---

USER = ("oauth2.googleapis.com", "POST", "/token")
API = "us-central1-aiplatform.googleapis.com"
LIST = "/v1/projects/sandbox-project/locations/us-central1/endpoints"
PAGE = f"{LIST}?pageSize=100"
DEDICATED = "2345678901234567890.us-central1-123456789012.prediction.vertexai.goog"


def environ(tmp_path: Path, proxy: GoogleProxy) -> dict[str, str]:
    adc = write_adc(tmp_path / "adc.json", google.authorized_user())
    return (
        clean_environ(tmp_path / "home")
        | proxy.environ
        | {
            "GOOGLE_APPLICATION_CREDENTIALS": str(adc),
            "GOOGLE_CLOUD_PROJECT": "sandbox-project",
            "GOOGLE_CLOUD_LOCATION": "us-central1",
        }
    )


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[tuple[GoogleProxy, dict[str, str]]]:
    with Sandbox() as sandbox, GoogleProxy(sandbox.url, tmp_path / "proxy") as proxy:
        yield proxy, environ(tmp_path, proxy)
        assert proxy.refused == []


def base_url(ended: Completed) -> str:
    assert ended.stderr == ""
    return str(json.loads(ended.stdout)["OPENAI_BASE_URL"])


@pytest.mark.parametrize(
    ("wanted", "host", "number"),
    [
        pytest.param("1234567890123456789", API, "1234567890123456789", id="by ID"),
        pytest.param("sandbox-llama", API, "1234567890123456789", id="by name"),
        pytest.param(
            "2345678901234567890", DEDICATED, "2345678901234567890", id="dedicated, by ID"
        ),
        pytest.param(
            "sandbox-dedicated", DEDICATED, "2345678901234567890", id="dedicated, by name"
        ),
        pytest.param("mg-endpoint-1a2b", API, "mg-endpoint-1a2b", id="an ID with letters"),
    ],
)
def test_base_url(
    wanted: str, host: str, number: str, sandbox: tuple[GoogleProxy, dict[str, str]]
) -> None:
    """An ID or a name leads to the endpoint's own host, where it has one."""
    _, env = sandbox
    ended = run_cli("export", "--format", "json", "--endpoint", wanted, env=env)
    assert base_url(ended) == f"https://{host}{LIST}/{number}"


def test_remembered(sandbox: tuple[GoogleProxy, dict[str, str]]) -> None:
    """The second time nobody is asked, for a token or for the endpoint; `--refresh` asks for both."""
    proxy, env = sandbox
    command = ("export", "--format", "json", "--endpoint", "sandbox-dedicated")
    first = base_url(run_cli(*command, env=env))
    assert proxy.requests == [USER, (API, "GET", f"{LIST}/sandbox-dedicated"), (API, "GET", PAGE)]
    proxy.requests.clear()
    assert base_url(run_cli(*command, env=env)) == first
    assert proxy.requests == []
    assert base_url(run_cli(*command, "--refresh", env=env)) == first
    assert proxy.requests == [USER, (API, "GET", f"{LIST}/sandbox-dedicated"), (API, "GET", PAGE)]


def test_not_confused(sandbox: tuple[GoogleProxy, dict[str, str]]) -> None:
    """What is remembered is remembered for that name only: an unknown one is still unknown."""
    proxy, env = sandbox
    base_url(run_cli("export", "--format", "json", "--endpoint", "sandbox-llama", env=env))
    proxy.requests.clear()
    ended = run_cli("export", "--format", "json", "--endpoint", "sandbox-gemini", env=env)
    assert (ended.status, ended.stdout) == (78, "")
    assert ended.stderr.startswith(
        "vertex-env: error: there is no endpoint 'sandbox-gemini' in projects/sandbox-project"
    )
    assert proxy.requests == [(API, "GET", f"{LIST}/sandbox-gemini"), (API, "GET", PAGE)]


HOSTILE = [
    item("1", "\x1b[31mred\x1b[0m\nnext\ttab\u202eleft"),
    item("2", "x" * 5000),
    item("3", {"a": 1}, deployedModels=[{"displayName": "\x07bell"}, "x"]),
    "x",
    None,
]


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[tuple[Answers, dict[str, str]]]:
    with (
        Answers({LIST: Reply(body={"endpoints": HOSTILE})}) as answers,
        GoogleProxy(answers.url, tmp_path / "proxy") as proxy,
    ):
        yield answers, environ(tmp_path, proxy)
        assert proxy.refused == []


def test_table_of_hostile_names(hostile: tuple[Answers, dict[str, str]]) -> None:
    """One line an endpoint, and nothing that a terminal would obey."""
    ended = run_cli("endpoints", env=hostile[1])
    assert (ended.stderr, ended.status) == ("", 0)
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", "1", "2", "3"]
    assert all(line.isprintable() for line in lines)


def test_json_of_hostile_names(hostile: tuple[Answers, dict[str, str]]) -> None:
    """JSON keeps the names as they are, and plain ASCII."""
    ended = run_cli("endpoints", "--format", "json", env=hostile[1])
    assert ended.stdout.isascii()
    shown = [one["name"] for one in json.loads(ended.stdout)]
    assert shown[0] == HOSTILE[0]["displayName"]  # type: ignore[index]
    assert shown[1] == "x" * 5000


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("evil.example.com", id="another domain"),
        pytest.param(
            "1.us-central1-1.prediction.vertexai.goog.evil.example.com", id="behind Google's"
        ),
        pytest.param("evilgoogleapis.com", id="no dot before Google's"),
        pytest.param("evil.example.com/.googleapis.com", id="path"),
        pytest.param("evil.example.com#.googleapis.com", id="fragment"),
        pytest.param("me@evil.example.com", id="user"),
        pytest.param("x.googleapis.com\nX: y", id="line break"),
        pytest.param("a.prediction.vertexai.goog:444", id="port"),
        pytest.param("a.prediction.vertexai.goog/evil", id="path behind Google's"),
        pytest.param("a.prediction.vertexai.goog/", id="slash"),
        pytest.param("evil.example/x.googleapis.com", id="path that looks like Google's"),
        pytest.param("me@a.prediction.vertexai.goog", id="user at Google's"),
        pytest.param("a.prediction.vertexai.goog#x", id="fragment behind Google's"),
        pytest.param("a.prediction.vertexai.goog?x", id="query"),
        pytest.param("A.prediction.vertexai.goog", id="upper case"),
        pytest.param("a.prediction.vertexai.goog.", id="trailing dot"),
        pytest.param("a..prediction.vertexai.goog", id="empty label"),
        pytest.param("-a.prediction.vertexai.goog", id="label that begins with a hyphen"),
        pytest.param("ä.prediction.vertexai.goog", id="unicode"),
        pytest.param("a\u3002prediction.vertexai.goog", id="unicode dot"),
        pytest.param("a.prediction.vertexai.goog\n", id="line end"),
        pytest.param("127.0.0.1", id="address"),
        pytest.param("googleapis.com", id="Google's domain itself"),
        pytest.param("x" * 300 + ".googleapis.com", id="long"),
        pytest.param(["a.prediction.vertexai.goog"], id="list"),
        pytest.param(7, id="number"),
    ],
)
def test_dedicated_host_that_is_not_googles(
    host: object, hostile: tuple[Answers, dict[str, str]]
) -> None:
    """The token is sent to no such host, whatever the API says, and nothing of it is remembered."""
    answers, env = hostile
    answers.routes[f"{LIST}/123"] = Reply(body=item("123", dedicatedEndpointDns=host))
    for _ in range(2):
        ended = run_cli("export", "--format", "json", "--endpoint", "123", env=env)
        assert (ended.status, ended.stdout) == (78, "")
        error, hint = ended.stderr.splitlines()
        assert error.startswith("vertex-env: error: the dedicated host of endpoint 123 ")
        assert hint.startswith("vertex-env: hint: ")


def test_control_dedicated_host_that_is_googles(hostile: tuple[Answers, dict[str, str]]) -> None:
    """The same drive with a host that may have the token."""
    answers, env = hostile
    answers.routes[f"{LIST}/123"] = Reply(
        body=item("123", dedicatedEndpointDns="a.prediction.vertexai.goog")
    )
    ended = run_cli("export", "--format", "json", "--endpoint", "123", env=env)
    assert (ended.status, ended.stderr) == (0, "")
    url = json.loads(ended.stdout)["OPENAI_BASE_URL"]
    assert url.startswith("https://a.prediction.vertexai.goog/v1/projects/")


@pytest.mark.parametrize("host", ["a.prediction.vertexai.goog:444/evil", 7, ["x"]])
def test_remembered_host_that_is_none(
    host: object, hostile: tuple[Answers, dict[str, str]]
) -> None:
    """What has become of the note is not believed either: Google is asked again."""
    answers, env = hostile
    answers.routes[f"{LIST}/123"] = Reply(
        body=item("123", dedicatedEndpointDns="a.prediction.vertexai.goog")
    )
    command = ("export", "--format", "json", "--endpoint", "123")
    assert run_cli(*command, env=env).status == 0
    (note,) = (Path(env["HOME"]) / ".cache" / "vertex-env").glob("endpoint-*")
    written = json.loads(note.read_text())
    assert "a.prediction.vertexai.goog" in json.dumps(written)
    note.write_text(json.dumps(written).replace('"a.prediction.vertexai.goog"', json.dumps(host)))
    asked = len(answers.asked)
    ended = run_cli(*command, env=env)
    assert json.loads(ended.stdout)["OPENAI_BASE_URL"].startswith(
        "https://a.prediction.vertexai.goog/v1/"
    )
    assert len(answers.asked) == asked + 1


def slowly(handler: Handler) -> None:
    """So that requests pile up."""
    handler.server.left.wait(0.2)
    handler.send(Reply(body={"endpoints": [item("1")]}))


def test_many_regions_at_once(tmp_path: Path) -> None:
    """With all regions on one host, more connections are used than urllib3 wants to keep; it does not say so."""
    names = [f"region-{'abcdefghijklmnopqrstuvwxyz'[number]}1" for number in range(26)]
    parent = "/v1/projects/sandbox-project/locations"
    routes: dict[str, Route] = {f"{parent}/{name}/endpoints": slowly for name in names}
    routes[parent] = Reply(body={"locations": [{"locationId": name} for name in names]})
    with Answers(routes) as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        env = environ(tmp_path, proxy)
        adc = write_adc(tmp_path / "adc.json", google.service_account(answers.url))
        env |= {
            "GOOGLE_APPLICATION_CREDENTIALS": str(adc),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": answers.url,
            "VERTEX_ENV_ALLOW_HOST": "127.0.0.1",
        }
        assert run_cli("token", env=env).stderr == ""
        ended = run_cli("endpoints", "--all-locations", "--format", "json", env=env)
    assert ended.stderr == ""
    assert len(json.loads(ended.stdout)) == 26


# --- lists without an end ---


def endless(*, pause_s: float = 0, locations: int = 0) -> tuple[Get, list[str]]:
    """A `Get` each of whose pages names another one; and the questions."""
    asked: list[str] = []

    def get(url: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        asked.append(url + query.get("pageToken", ""))
        time.sleep(pause_s)
        items = [{"locationId": f"a{len(asked)}-{number}"} for number in range(locations)]
        return {"nextPageToken": str(len(asked)), "locations": items}

    return get, asked


def test_a_list_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with an error, after so many pages or so much time. The control: with more time it goes on."""
    get, asked = endless()
    with pytest.raises(UnavailableError, match="without an end"):
        list(list_endpoints(get, ROOT, PARENT))
    many = len(asked)
    assert many > 100
    for budget_s, fewest in ((0.05, 2), (0.5, 8)):
        monkeypatch.setattr(endpoints, "LIST_S", budget_s)
        get, asked = endless(pause_s=0.01)
        with pytest.raises(UnavailableError, match="without an end"):
            list(list_endpoints(get, ROOT, PARENT))
        assert fewest <= len(asked) < many / 2


def test_too_many_locations() -> None:
    """Each of them would be a list to ask for."""
    get, asked = endless(locations=100)
    with pytest.raises(UnavailableError, match="too many locations"):
        list_locations(get, ROOT, "p")
    assert len(asked) == 6
