"""config.toml, with the line of whatever is wrong in it, and gcloud's configuration as gcloud leaves it."""

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from vertex_env.errors import SettingsError
from vertex_env.settings.config import MAX_BYTES, MOST_DOTS, Config, read_config
from vertex_env.settings.gcloud import gcloud_files, read_gcloud
from vertex_env.settings.kinds import Found
from vertex_env.settings.options import OPTIONS
from vertex_env.settings.places import cache_folder, config_path, gcloud_dir, home
from vertex_env.settings.resolve import first, gcloud_layer, options_layer, resolve

# --- where files are ---


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HOME": "/h"}, "/h/.config/vertex-env/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": ""}, "/h/.config/vertex-env/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/vertex-env/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "x"}, "/h/.config/vertex-env/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x", "VERTEX_ENV_CONFIG": "/c.toml"}, "/c.toml"),
        ({"HOME": "/h", "VERTEX_ENV_CONFIG": ""}, "/h/.config/vertex-env/config.toml"),
        ({"HOME": "/h", "APPDATA": "/a"}, "/h/.config/vertex-env/config.toml"),
    ],
    ids=["home", "empty", "XDG", "relative XDG is ignored", "named", "named empty", "Windows only"],
)
def test_config_path(environ: Mapping[str, str], path: str) -> None:
    """The file is where the XDG specification says, unless it is named."""
    assert config_path(environ) == Path(path)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HOME": "/h"}, "/h/.config/gcloud"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/h/.config/gcloud"),
        ({"HOME": "/h", "CLOUDSDK_CONFIG": "/g"}, "/g"),
        ({"HOME": "/h", "CLOUDSDK_CONFIG": ""}, "/h/.config/gcloud"),
        ({"HOME": "/h", "APPDATA": "/a"}, "/h/.config/gcloud"),
    ],
    ids=["home", "XDG plays no part", "named", "named empty", "Windows only"],
)
def test_gcloud_dir(environ: Mapping[str, str], path: str) -> None:
    """gcloud's folder is where gcloud has it."""
    assert gcloud_dir(environ) == Path(path)


def as_nobody(*lines: str) -> str:
    """What Python prints for *lines* as a user without a name, or as ourselves if we are not root."""
    prelude = (
        "import os, pwd",
        "from pathlib import Path",
        "from vertex_env.settings.config import read_config",
        "from vertex_env.settings.places import cache_folder, config_path, gcloud_dir, home",
        "from vertex_env.errors import SettingsError",
        "if os.geteuid() == 0: os.setuid(54321)",
    )
    environ = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", "\n".join([*prelude, *lines])]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_home_of_nobody() -> None:
    """Without HOME and without a user, as in some containers, there is none, and nothing of what would be in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user that does not exist")
    said = as_nobody("print(home({}), config_path({}), gcloud_dir({}), *cache_folder({}), sep='|')")
    assert said == (
        "None|None|None|None|nothing is stored: HOME is not set, and the user is unknown; "
        "set HOME, XDG_CACHE_HOME or VERTEX_ENV_CACHE_DIR to an absolute path\n"
    )
    assert as_nobody("print(home({'HOME': ''}), home({'HOME': '/h'}))") == "None /h\n"


def test_home() -> None:
    """HOME counts; without it the user's own home does; a relative one is none."""
    assert home({"HOME": "/h"}) == Path("/h")
    found = home({})
    assert found is not None
    assert found.is_absolute()
    assert home({"HOME": ""}) == found
    assert home({"HOME": "relative"}) is None
    assert config_path({"HOME": "relative"}) is gcloud_dir({"HOME": "relative"}) is None
    assert gcloud_files({"HOME": "relative"}) == ("default", [])
    assert read_gcloud({"HOME": "relative", "CLOUDSDK_ACTIVE_CONFIG_NAME": "work"}) == ("work", {})


@pytest.mark.parametrize("home", ["/dev/null", "/nonexistent"])
def test_home_of_a_system_user(home: str) -> None:
    """Debian's have one of these: config.toml is absent there, and not an error."""
    path = config_path({"HOME": home})
    assert read_config(path) == Config(path)
    assert read_gcloud({"HOME": home}) == ("default", {})


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"HOME": "relative"}, "HOME is not an absolute path"),
        ({"HOME": "~"}, "HOME is not an absolute path"),
        ({"HOME": "relative", "XDG_CACHE_HOME": "relative"}, "HOME is not an absolute path"),
        (
            {"HOME": "/h", "VERTEX_ENV_CACHE_DIR": "relative"},
            "VERTEX_ENV_CACHE_DIR is not an absolute path",
        ),
        (
            {"HOME": "/h", "VERTEX_ENV_CACHE_DIR": "~/cache"},
            "VERTEX_ENV_CACHE_DIR is not an absolute path",
        ),
    ],
    ids=str,
)
def test_relative_folder_is_no_place_to_store_in(environ: Mapping[str, str], why: str) -> None:
    """It would be another one in each folder that we are called from."""
    folder, said = cache_folder(environ)
    assert folder is None
    assert said is not None
    assert said.startswith(f"nothing is stored: {why}; set ")
    assert cache_folder({**environ, "VERTEX_ENV_CACHE_DIR": "/c"}) == (Path("/c"), None)


# --- config.toml ---


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def refusal(path: Path, text: str | bytes) -> tuple[str, str]:
    """Message and hint, the path in the message shortened to FILE."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as e:
        read_config(path)
    message = e.value.message.replace(str(path), "FILE")
    assert message.isprintable()
    assert e.value.hint.isprintable()
    return message, e.value.hint


def profile(path: Path, text: str, name: str = "work") -> dict[str, str | tuple[str, ...]]:
    path.write_text(text, encoding="utf-8")
    return {key: found.value for key, found in read_config(path).profiles[name].items()}


FULL = """\
# comment
default-profile = "work"

[profile.work]
project = "work-project"   # [profile.fake]
location = 'europe-west4'
lifetime = 3600
client = ["goose",
          "aider"]

  [profile.work.set]
  LLM_URL = "{base_url}/x = y"
  "LLM_KEY" = "{token}"

[profile.home]
project = "home-project"
"""


def test_full_file(path: Path) -> None:
    """Profiles with all kinds of values, each with the line where it stands."""
    path.write_text(FULL, encoding="utf-8")
    config = read_config(path)
    assert config == Config(
        path,
        Found("work", f"{path}:2"),
        {
            "work": {
                "project": Found("work-project", f"{path}:5"),
                "location": Found("europe-west4", f"{path}:6"),
                "lifetime": Found("3600", f"{path}:7"),
                "client": Found(("goose", "aider"), f"{path}:8"),
                "set": Found(("LLM_URL={base_url}/x = y", "LLM_KEY={token}"), f"{path}:11"),
            },
            "home": {"project": Found("home-project", f"{path}:16")},
        },
    )
    found = resolve([config.layer(None)])
    assert str(found.project) == f"'work-project' from {path}:5"
    assert str(found.profile) == f"'work' from {path}:2"
    assert found.lifetime.value == timedelta(hours=1)
    assert found.set.value == {"LLM_URL": "{base_url}/x = y", "LLM_KEY": "{token}"}


def test_absent_file_is_empty(path: Path) -> None:
    """Nobody has to have a file."""
    assert read_config(path) == Config(path)
    assert read_config(path).layer(None) == {}


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "\ufeff", "[profile]\n"])
def test_file_without_profiles(path: Path, text: str) -> None:
    """A file may have nothing in it."""
    path.write_text(text, encoding="utf-8")
    assert read_config(path) == Config(path)


def test_which_profile(path: Path) -> None:
    """The profile that is asked for is taken, else the default one; it becomes the setting `profile` itself."""
    path.write_text(FULL, encoding="utf-8")
    config = read_config(path)
    asked = first([options_layer({"profile": "home"})], "profile")
    assert config.layer(asked) == {
        "project": Found("home-project", f"{path}:16"),
        "profile": Found("home", "--profile"),
    }
    assert config.layer(None)["profile"] == Found("work", f"{path}:2")


def test_no_default_profile(path: Path) -> None:
    """Without a default the profiles lie idle until one is asked for."""
    path.write_text("[profile.work]\nproject = 'work-project'\n", encoding="utf-8")
    assert read_config(path).layer(None) == {}
    assert read_config(path).layer(Found("work", "--profile")).keys() == {"project", "profile"}


@pytest.mark.parametrize(
    ("text", "asked", "message", "hint"),
    [
        (
            FULL,
            Found("wrok", "VERTEX_ENV_PROFILE"),
            "there is no profile 'wrok' (from VERTEX_ENV_PROFILE) in FILE",
            "profiles there: home, work; add one as [profile.NAME]",
        ),
        (
            "\ndefault-profile = 'x'\n",
            None,
            "there is no profile 'x' (from FILE:2) in FILE",
            "profiles there: none; add one as [profile.NAME]",
        ),
        (
            FULL,
            Found("../$(id)\n", "--profile"),
            r"there is no profile '../$(id)\n' (from --profile) in FILE",
            "profiles there: home, work; add one as [profile.NAME]",
        ),
    ],
    ids=["option", "default", "hostile"],
)
def test_unknown_profile(
    path: Path, text: str, asked: Found | None, message: str, hint: str
) -> None:
    """A profile that is not there is an error that lists those that are."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as e:
        read_config(path).layer(asked)
    assert (e.value.message.replace(str(path), "FILE"), e.value.hint) == (message, hint)


def test_unknown_profile_without_a_file(path: Path) -> None:
    """The same where there is no file at all: a profile that is asked for is not passed over."""
    with pytest.raises(SettingsError, match="there is no profile 'work'"):
        read_config(path).layer(Found("work", "--profile"))


WORK = {"project": "p", "set": ("A={token}", "B=x")}


@pytest.mark.parametrize(
    "text",
    [
        '[profile.work]\nproject = "p"\nset = ["A={token}", "B=x"]\n',
        '[profile.work]\nproject = "p"\nset = {A = "{token}", B = "x"}\n',
        '[profile.work]\nproject = "p"\n[profile.work.set]\nA = "{token}"\nB = "x"\n',
        '[profile.work]\nproject = "p"\nset.A = "{token}"\nset.B = "x"\n',
        'profile.work.project = "p"\nprofile.work.set = ["A={token}", "B=x"]\n',
        '[profile]\nwork.project = "p"\nwork.set.A = "{token}"\nwork.set.B = "x"\n',
        '[profile]\nwork = {project = "p", set = {A = "{token}", B = "x"}}\n',
        '["profile"."work"]\n"project" = "p"\n\'set\' = ["A={token}", "B=x"]\n',
        '[ profile . work ]\r\n  project="p"\r\n  set = [\r\n "A={token}",\r\n "B=x",\r\n]\r\n',
        '\ufeff[profile.work]\nproject = "p"\nset = ["A={token}", "B=x"]\n',
        '[profile.work]\nproject = """\\\n  p"""\nset = [\'A={token}\', """B=x"""]\n',
    ],
    ids=[
        "list",
        "inline table",
        "table",
        "dotted keys",
        "dotted from the top",
        "dotted below profile",
        "inline profile",
        "quoted",
        "CRLF and spaces",
        "BOM",
        "multi-line strings",
    ],
)
def test_ways_of_writing_the_same(path: Path, text: str) -> None:
    """TOML has many ways to say a thing; all mean the same here."""
    path.write_bytes(text.encode())
    assert {key: found.value for key, found in read_config(path).profiles["work"].items()} == WORK


@pytest.mark.parametrize("name", ["my.work", "my work", "größer", "-x", "a]b", 'a"b', "a=b", ""])
def test_any_profile_name_can_be_read(path: Path, name: str) -> None:
    """A profile with a name that cannot be chosen is no reason to refuse the others."""
    quoted = name.replace('"', '\\"')
    assert profile(
        path, f'[profile.work]\nproject = "p"\n[profile."{quoted}"]\nproject = "q"\n', name
    ) == {"project": "q"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('project = "p"', {"project": "p"}),
        ("project = 123456", {"project": "123456"}),
        ("endpoint = 1234567890123456789", {"endpoint": "1234567890123456789"}),
        ("lifetime = 0x10", {"lifetime": "16"}),
        ('client = "goose"', {"client": ("goose",)}),
        ('client = ["goose", "aider"]', {"client": ("goose", "aider")}),
        ('impersonate = "a,b"', {"impersonate": "a,b"}),
        ('impersonate = ["a", "b"]', {"impersonate": ("a", "b")}),
        ('set = "A=x"', {"set": ("A=x",)}),
        ("client = []", {}),
        ("scope = []", {}),
        ("impersonate = []", {}),
        ("set = {}", {}),
        ('project = ""', {"project": ""}),
    ],
)
def test_value(path: Path, text: str, value: Mapping[str, object]) -> None:
    """Strings, whole numbers and lists, as the option would be given; an empty list counts as unset."""
    assert profile(path, f"[profile.work]\n{text}\n") == value


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("project = true", "project"),
        ("lifetime = 1.5", "lifetime"),
        ("project = 2026-11-22", "project"),
        ('project = ["p"]', "project"),
        ('project = {id = "p"}', "project"),
        ("client = 1", "client"),
        ("client = [1]", "client"),
        ('client = ["goose", ["aider"]]', "client"),
        ('client = {goose = "x"}', "client"),
        ("set = [1]", "set"),
        ("set = {A = 1}", "set"),
        ('set = {A = {B = "x"}}', "set"),
        ("set = true", "set"),
        ("project = []", "project"),
    ],
)
def test_wrong_type(path: Path, text: str, key: str) -> None:
    """A value of the wrong type is an error with its line and an example."""
    message, hint = refusal(path, f"[profile.work]\nlocation = 'us'\n{text}\n")
    assert message == f"{key} in FILE:3 has a value of the wrong type"
    many = key in ("client", "set")
    assert hint == (f'write it as {key} = ["…", "…"]' if many else f'write it as {key} = "…"')


KNOWN = (
    "known there: project, location, endpoint, model, api, api-version, base-url, allow-host, credentials, "
    "impersonate, lifetime, scope, quota-project, store, min-ttl, mint-timeout, client, set"
)
TOP = "known there: default-profile, and [profile.NAME] tables"
BOTH = 'write default-profile = "NAME", and a table [profile.NAME] for each profile'
TABLE = "write [profile.NAME], in single brackets"

TYPE = "has a value of the wrong type"

WRONG = {
    "key in a profile": (
        "[profile.work]\n\nprojet = 'p'\n",
        "unknown key 'projet' in FILE:3",
        KNOWN,
    ),
    "key of an option's field": (
        "[profile.work]\nmin_ttl = 3\n",
        "unknown key 'min_ttl' in FILE:2",
        KNOWN,
    ),
    "profile in a profile": (
        "[profile.work]\nprofile = 'x'\n",
        "unknown key 'profile' in FILE:2",
        KNOWN,
    ),
    "internal setting": (
        "[profile.work]\napi-endpoint = 'x'\n",
        "unknown key 'api-endpoint' in FILE:2",
        KNOWN,
    ),
    "key in upper case": (
        "[profile.work]\nProject = 'x'\n",
        "unknown key 'Project' in FILE:2",
        KNOWN,
    ),
    "hostile key": (
        '[profile.work]\n"a\\n$(id)" = 1\n',
        r"unknown key 'a\n$(id)' in FILE:1",
        KNOWN,
    ),
    "key at the top": ("# a\nproject = 'p'\n", "unknown key 'project' in FILE:2", TOP),
    "table at the top": (
        "\n[profiles.work]\nproject = 'p'\n",
        "unknown key 'profiles' in FILE:2",
        TOP,
    ),
    "second profile": (
        "[profile.a]\nproject = 'x'\n[profile.b]\nprojekt = 'x'\n",
        "unknown key 'projekt' in FILE:4",
        KNOWN,
    ),
    "same key, other profile": (
        "[profile.a.set]\nprojekt = 'x'\n[profile.b]\nprojekt = 'x'\n",
        "unknown key 'projekt' in FILE:4",
        KNOWN,
    ),
    "quoted key": (
        "[profile.'a']\n \"pro jet\"  =  'x'\n",
        "unknown key 'pro jet' in FILE:2",
        KNOWN,
    ),
    "dotted key": ("\nprofile.a.projekt = 'x'\n", "unknown key 'projekt' in FILE:2", KNOWN),
    "dotted key with spaces": (
        "\nprofile . 'a' . \"projekt\"='x'\n",
        "unknown key 'projekt' in FILE:2",
        KNOWN,
    ),
    "dotted key in a profile": (
        "[profile.a]\n\nprojekt.id = 'x'\n",
        "unknown key 'projekt' in FILE:3",
        KNOWN,
    ),
    "dotted key below profile": (
        "[profile]\n\na.projekt = 'x'\n",
        "unknown key 'projekt' in FILE:3",
        KNOWN,
    ),
    "inline table": (
        "\nprofile = {a = {projekt = 'x'}}\n",
        "unknown key 'projekt' in FILE:2",
        KNOWN,
    ),
    "inline table of a profile": (
        "[profile]\na = {projekt = 'x'}\n",
        "unknown key 'projekt' in FILE:2",
        KNOWN,
    ),
    "table in a profile": (
        "[profile.a]\n[profile.a.projekt]\nid = 1\n",
        "unknown key 'projekt' in FILE:2",
        KNOWN,
    ),
    "CRLF": ("[profile.a]\r\n\r\nprojekt = 'x'\r\n", "unknown key 'projekt' in FILE:3", KNOWN),
    "odd line breaks in a comment": (
        "# a\u2028b\x85c\u2029\n[profile.a]\nprojekt = 'x'\n",
        "unknown key 'projekt' in FILE:3",
        KNOWN,
    ),
    "list over lines": (
        "[profile.a]\nclient = [\n'goose',\n]\nprojekt = 'x'\n",
        "unknown key 'projekt' in FILE:5",
        KNOWN,
    ),
    "BOM": ("\ufeffproject = 'x'\n", "unknown key 'project' in FILE:1", TOP),
    "default-profile of another type": (
        "\ndefault-profile = 1\n",
        f"default-profile in FILE:2 {TYPE}",
        BOTH,
    ),
    "default-profile as a table": (
        "[default-profile]\n",
        f"default-profile in FILE:1 {TYPE}",
        BOTH,
    ),
    "profile as text": ("\nprofile = 'work'\n", f"profile in FILE:2 {TYPE}", BOTH),
    "array of tables": ("\n[[profile]]\nname = 'work'\n", f"profile in FILE:2 {TYPE}", BOTH),
    "array for one profile": (
        "\n[[profile.work]]\nproject = 'p'\n",
        "profile 'work' in FILE:2 is not a table",
        TABLE,
    ),
    "array after a table": (
        "[profile.a]\n[[profile.b]]\nproject = 'p'\n",
        "profile 'b' in FILE:2 is not a table",
        TABLE,
    ),
    "profile without a name": (
        "[profile]\nproject = 'p'\n",
        "profile 'project' in FILE:2 is not a table",
        TABLE,
    ),
}


@pytest.mark.parametrize(("text", "message", "hint"), WRONG.values(), ids=WRONG.keys())
def test_wrong_key(path: Path, text: str, message: str, hint: str) -> None:
    """What is not known is an error with its line, and what is known is listed."""
    assert refusal(path, text) == (message, hint)


def test_known_keys_are_the_options() -> None:
    """Every option but `profile` can stand in a profile."""
    assert (
        f"known there: profile, {KNOWN.removeprefix('known there: ')}"
        == "known there: " + ", ".join(option.name for option in OPTIONS if not option.internal)
    )


NOT_TOML = {
    "no value": (b"[profile.a]\nproject =\n", "Invalid value (at line 2, column 10)"),
    "no quotes": (b"[profile.a]\n\nproject = my-project\n", "Invalid value (at line 3, column 11)"),
    "open quote": (b"[profile.a]\nproject = 'p\n", "(at end of document)"),
    "open bracket": (b"[profile.a\nproject = 'p'\n", "(at line 1, column"),
    "twice": (
        b"[profile.a]\nproject = 'p'\nproject = 'q'\n",
        "Cannot overwrite a value (at line 3, column",
    ),
    "table twice": (b"[profile.a]\n[profile.a]\n", "(at line 2, column"),
    "line break in a string": (b'[profile.a]\nproject = "a\nb"\n', "(at line 2, column"),
    "carriage returns alone": (b"[profile.a]\rproject = 'p'\r", "(at line 1, column"),
    "NUL": (b"[profile.a]\nproject = 'a\0b'\n", "(at line 2, column"),
    "JSON": (b'{"profile": {"a": {"project": "p"}}}', "(at line 1, column"),
    "shell": (b"VERTEX_ENV_PROJECT=my-project\n", "(at line 1, column"),
    "many digits": (b"[profile.a]\nproject = " + b"1" * 5000 + b"\n", "digits"),
    "deep nesting": (b"x = " + b"[" * 50_000, "recursion"),
}


@pytest.mark.parametrize(("data", "reason"), NOT_TOML.values(), ids=NOT_TOML.keys())
def test_not_toml(path: Path, data: bytes, reason: str) -> None:
    """What is not TOML is an error that quotes the parser, which names the line."""
    message, hint = refusal(path, data)
    assert message.startswith("FILE is not valid TOML: ")
    assert reason in message
    assert hint == "correct the line named, or move the file away"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"[profile.a]\nproject = '\xff'\n", 2),
        (b"\xff\xfe[\0p\0", 1),
        (b"# caf\xe9\n", 1),
        (b"\xef\xbb\xbf\n\n\xff", 3),
        (b"a\n\xed\xa0\x80", 2),
    ],
    ids=["byte", "UTF-16", "Latin-1", "after a BOM", "surrogate"],
)
def test_not_utf8(path: Path, data: bytes, line: int) -> None:
    """A file in another encoding is an error with the line of the first byte that does not fit."""
    assert refusal(path, data) == (
        f"FILE:{line} is not valid TOML: not UTF-8",
        "save the file as UTF-8",
    )


def test_folder_in_its_place(path: Path) -> None:
    """A folder where the file should be is an error, not an absent file."""
    path.mkdir()
    with pytest.raises(SettingsError) as e:
        read_config(path)
    assert e.value.message == f"cannot read {path}: Is a directory"
    assert e.value.hint == f"check the file, or move it away: ls -ld {path}"


def test_file_in_the_place_of_its_folder(tmp_path: Path) -> None:
    """A file where the folder should be is an error."""
    (tmp_path / "vertex-env").touch()
    with pytest.raises(SettingsError, match="Not a directory"):
        read_config(tmp_path / "vertex-env" / "config.toml")


def test_link_to_itself(path: Path) -> None:
    """So is a link that leads nowhere but to itself."""
    path.symlink_to(path)
    with pytest.raises(SettingsError, match="cannot read"):
        read_config(path)


def test_unreadable_file(path: Path) -> None:
    """A file that the user may not read is an error, not an absent file."""
    path.touch(mode=0o000)
    said = as_nobody(
        f"try: read_config(Path({str(path)!r}))", "except SettingsError as e: print(e.message)"
    )
    assert said == f"cannot read {path}: Permission denied\n"


def test_long_lines_do_not_hang(path: Path) -> None:
    """Finding the lines takes no longer than reading them, whatever stands there."""
    word = "a" * 6_000
    lines = [
        word,
        f'"{word}',
        f"[{word}",
        f"{word}.",
        "a." * MOST_DOTS,
        "'a'" * 2_000,
        " " * 6_000,
        "[" * 1000,
        f"{word} =",
    ]
    text = (
        "[profile.work]\nset = ['''X=\n"
        + "\n".join(lines).replace("'''", "")
        + "''']\nprojekt = 'x'\n"
    )
    message, _ = refusal(path, text)
    assert re.fullmatch(r"unknown key 'projekt' in FILE:\d+", message)


def test_size(path: Path) -> None:
    """Far above what anybody writes, and far below what keeps the parser busy."""
    path.write_text("#" * MAX_BYTES)
    assert read_config(path).profiles == {}
    message, _ = refusal(path, "#" * (MAX_BYTES + 1))
    assert message == "cannot read FILE: it is too large"


def test_key_of_many_parts(path: Path) -> None:
    """It is refused before the parser has it, which takes a second for ten thousand bytes, and four for twenty."""
    text = "[profile.work]\n" + "a." * 5_000 + "a = 1\n"
    start = time.process_time()
    message, _ = refusal(path, text)
    ours = time.process_time() - start
    assert message == f"FILE:2 has more than {MOST_DOTS} dots in one line"
    # The control.
    start = time.process_time()
    tomllib.loads(text)
    assert time.process_time() - start > 10 * ours


def test_many_profiles(path: Path) -> None:
    """The time for their lines grows with their number, not with its square."""

    def took(count: int) -> float:
        path.write_text("".join(f"[profile.p{i}]\nproject = 'p'\n" for i in range(count)))
        start = time.process_time()
        assert len(read_config(path).profiles) == count
        return time.process_time() - start

    # The best of five each: another process may take the caches.
    few, many = (min(took(count) for _ in range(5)) for count in (200, 1600))
    assert many < 24 * few


TOML = st.lists(
    st.sampled_from(
        [
            *[
                "[profile.work]",
                "[[profile.work]]",
                "[profile]",
                "project",
                '"project"',
                "set",
                "client",
                "default-profile",
            ],
            *[
                " = ",
                ".",
                "'work'",
                '"x"',
                "['a', 'b']",
                "{A = 'x'}",
                "1",
                "true",
                "\n",
                "\n",
                "\r\n",
                "#",
                "\ufeff",
                "'''",
            ],
        ]
    )
    | st.text(max_size=2)
).map("".join)


def read(path: Path) -> Config | SettingsError:
    try:
        return read_config(path)
    except SettingsError as e:
        return e


@given(data=TOML.map(str.encode) | st.binary(max_size=30))
@examples(deadline=None, max_examples=500)
def test_any_file_is_read_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is in the file: profiles come out, or an error in a line, and nothing else."""
    path = tmp_path_factory.getbasetemp() / "any-config.toml"
    path.write_bytes(data)
    result = read(path)
    if isinstance(result, SettingsError):
        assert str(path) in result.message
        assert result.message.replace(str(path), "").isprintable()
    else:
        assert all(
            layer.keys() <= {option.name for option in OPTIONS}
            for layer in result.profiles.values()
        )
        assert all(
            found.source.startswith(str(path))
            for layer in result.profiles.values()
            for found in layer.values()
        )


# --- gcloud's configuration ---

INI = """\
[core]
account = me@example.com
project = my-project

[ai]
region = europe-west4
[api_endpoint_overrides]
aiplatform = https://europe-west4-aiplatform.googleapis.com/
[compute]
region = us-central1
"""
PROPERTIES = {
    "core/account": "me@example.com",
    "core/project": "my-project",
    "ai/region": "europe-west4",
    "api_endpoint_overrides/aiplatform": "https://europe-west4-aiplatform.googleapis.com/",
    "compute/region": "us-central1",
}


@pytest.fixture
def gcloud(tmp_path: Path) -> Path:
    """gcloud's folder as gcloud leaves it, with two configurations."""
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations" / "config_default").write_text(INI, encoding="utf-8")
    (tmp_path / "configurations" / "config_work-2").write_text(
        "[core]\nproject = work-project\n", encoding="utf-8"
    )
    (tmp_path / "active_config").write_text("default", encoding="utf-8")
    return tmp_path


def test_gcloud_properties(gcloud: Path) -> None:
    """The active configuration's properties, by section and name."""
    assert read_gcloud({"CLOUDSDK_CONFIG": str(gcloud)}) == ("default", PROPERTIES)


def test_gcloud_folder_in_the_home(gcloud: Path, tmp_path: Path) -> None:
    """Without CLOUDSDK_CONFIG the folder is in the home, whatever XDG says."""
    folder = tmp_path / "home" / ".config"
    folder.mkdir(parents=True)
    (folder / "gcloud").symlink_to(gcloud)
    environ = {"HOME": str(folder.parent), "XDG_CONFIG_HOME": str(tmp_path / "x")}
    assert read_gcloud(environ) == ("default", PROPERTIES)


@pytest.mark.parametrize(
    ("active", "environ", "name"),
    [
        ("work-2", {}, "work-2"),
        (" work-2\n", {}, "work-2"),
        ("default", {"CLOUDSDK_ACTIVE_CONFIG_NAME": "work-2"}, "work-2"),
        ("work-2", {"CLOUDSDK_ACTIVE_CONFIG_NAME": ""}, "work-2"),
        ("work-2", {"CLOUDSDK_ACTIVE_CONFIG_NAME": "default"}, "default"),
        ("", {}, "default"),
        (None, {}, "default"),
    ],
    ids=[
        "file",
        "file with spaces",
        "variable",
        "empty variable",
        "variable over file",
        "empty file",
        "no file",
    ],
)
def test_active_configuration(
    gcloud: Path, active: str | None, environ: Mapping[str, str], name: str
) -> None:
    """The variable names the configuration, else the file does, else it is `default`."""
    (gcloud / "active_config").unlink()
    if active is not None:
        (gcloud / "active_config").write_text(active, encoding="utf-8")
    project = {"default": "my-project", "work-2": "work-project"}[name]
    found, properties = read_gcloud({"CLOUDSDK_CONFIG": str(gcloud), **environ})
    assert (found, properties["core/project"]) == (name, project)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "../../x",
        "/etc/passwd",
        "work_2",
        "Work",
        "NONE",
        "work-2\n\n[core]",
        "work-2/",
        ".",
        "$(id)",
        "a\0b",
        "\u0430",
    ],
)
@pytest.mark.parametrize("by", ["variable", "file"])
def test_hostile_configuration_name(gcloud: Path, name: str, by: str) -> None:
    """A name that gcloud would not have given leads to no file, and to no error."""
    for place in ("x", "config_x", "configurations/x"):
        (gcloud / place).write_text("[core]\nproject = evil-project\n", encoding="utf-8")
    (gcloud / "configurations" / "config_..").mkdir()
    environ = {"CLOUDSDK_CONFIG": str(gcloud)}
    if by == "variable":
        environ["CLOUDSDK_ACTIVE_CONFIG_NAME"] = name
    else:
        (gcloud / "active_config").write_text(name, encoding="utf-8")
    assert read_gcloud(environ) == (name, {})


@pytest.mark.parametrize(
    "data",
    [
        b"project = my-project\n",
        b"[core\nproject = my-project\n",
        b"[core]\nproject\n",
        b"[core]\n= x\n",
        b"\xff\xfe[\0c\0",
        b"[core]\nproject = \xff\n",
        b"{}",
        b"<html>",
        b"\0" * 100,
        b"",
    ],
    ids=[
        "no section",
        "open bracket",
        "no value",
        "no name",
        "UTF-16",
        "not UTF-8",
        "JSON",
        "HTML",
        "NULs",
        "empty",
    ],
)
def test_damaged_configuration_is_empty(gcloud: Path, data: bytes) -> None:
    """The file is gcloud's: what cannot be read there counts as empty."""
    (gcloud / "configurations" / "config_default").write_bytes(data)
    assert read_gcloud({"CLOUDSDK_CONFIG": str(gcloud)}) == ("default", {})


@pytest.mark.parametrize("missing", ["folder", "configurations", "configuration"])
def test_missing_configuration_is_empty(gcloud: Path, missing: str) -> None:
    """Without gcloud, or without its active configuration, there are no properties."""
    folder = {"folder": gcloud / "nowhere", "configurations": gcloud / "configurations"}.get(
        missing, gcloud
    )
    name = "absent" if missing == "configuration" else "default"
    environ = {"CLOUDSDK_CONFIG": str(folder), "CLOUDSDK_ACTIVE_CONFIG_NAME": name}
    assert read_gcloud(environ) == (name, {})


def test_folders_in_the_place_of_files(gcloud: Path) -> None:
    """Folders where gcloud has files count as absent files."""
    (gcloud / "active_config").unlink()
    (gcloud / "active_config").mkdir()
    (gcloud / "configurations" / "config_default").unlink()
    (gcloud / "configurations" / "config_default").mkdir()
    assert read_gcloud({"CLOUDSDK_CONFIG": str(gcloud)}) == ("default", {})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("project = my-project", "my-project"),
        ("project=my-project", "my-project"),
        ("PROJECT : my-project", "my-project"),
        ("project = 100%", "100%"),
        ("project = %(account)s", "%(account)s"),
        ("project = a\nproject = b", "b"),
        ("project = a\n[core]\nproject = b", "b"),
        ("project = my-project # x", "my-project # x"),
        ("project = a\n  b", "a\nb"),
        ("project =", ""),
    ],
)
def test_ini(gcloud: Path, line: str, value: str) -> None:
    """Values are taken as they stand: nothing is interpolated, the last one counts."""
    (gcloud / "configurations" / "config_default").write_text(f"[core]\n{line}\n", encoding="utf-8")
    assert read_gcloud({"CLOUDSDK_CONFIG": str(gcloud)})[1]["core/project"] == value


def test_hostile_property_is_refused_with_its_source(gcloud: Path) -> None:
    """What gcloud's file says is checked like everything else."""
    (gcloud / "configurations" / "config_default").write_text(
        "[core]\nproject = a\n  $(id)\n", encoding="utf-8"
    )
    name, properties = read_gcloud({"CLOUDSDK_CONFIG": str(gcloud)})
    with pytest.raises(SettingsError) as e:
        resolve([gcloud_layer(properties, name)])
    assert (
        e.value.message
        == r"project 'a\n$(id)' from core/project in gcloud's configuration 'default' is not valid"
    )


INI_TEXT = st.lists(
    st.sampled_from(
        [
            "[core]",
            "[",
            "]",
            "project",
            " = ",
            "=",
            ":",
            "x",
            "\n",
            "\n",
            "\n  ",
            "#",
            ";",
            "[DEFAULT]",
            "%(x)s",
        ]
    )
    | st.text(max_size=2)
).map("".join)


@given(data=INI_TEXT.map(str.encode) | st.binary(max_size=30), active=st.text(max_size=5))
@examples(deadline=None, max_examples=500)
def test_any_configuration_is_read(
    data: bytes, active: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is in gcloud's files, reading them succeeds, with text for values."""
    folder = tmp_path_factory.getbasetemp() / "any-gcloud"
    (folder / "configurations").mkdir(parents=True, exist_ok=True)
    (folder / "active_config").write_bytes(active.encode())
    for name in ("default", "x"):
        (folder / "configurations" / f"config_{name}").write_bytes(data)
        _, properties = read_gcloud(
            {"CLOUDSDK_CONFIG": str(folder), "CLOUDSDK_ACTIVE_CONFIG_NAME": name}
        )
        assert all("/" in key and key + value for key, value in properties.items())
    name, properties = read_gcloud({"CLOUDSDK_CONFIG": str(folder)})
    assert properties == {} or name in ("default", "x")
