"""The tree of errors is as its docstring draws it, and exit statuses stand in one table."""

import ast
import re
from pathlib import Path

import pytest

from vertex_env import errors
from vertex_env.errors import ChildError, Exit, VertexEnvError

PACKAGE = Path(errors.__file__).parent
STATUSES = {name: value for name, value in vars(Exit).items() if isinstance(value, int)}
ENDS = ("exit", "_exit", "Exit", "ChildError", "STOPPED", "exit_code", "status", "code")
"""What takes an exit status, as a call or as a name that is assigned or compared."""


def test_each_status_has_one_name() -> None:
    """Two names for one number would say two things of it."""
    assert sorted(STATUSES.values()) == [0, 1, 2, 70, 75, 77, 78, 125, 126, 127, 130]


def test_the_tree_is_as_drawn() -> None:
    """Each type of error stands in the drawing with its statuses, and nothing else does."""
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"[├└]─ (\w+) +([\d, ]*\d)  ", errors.__doc__))
    types = {error.__name__: error for error in VertexEnvError.__subclasses__()}
    started = {Exit.RUN_FAILURE, Exit.NOT_EXECUTABLE, Exit.NOT_FOUND}
    real = {
        name: {error.exit_code} if error is not ChildError else started
        for name, error in types.items()
    }
    assert {
        name: {int(number) for number in numbers.split(",")} for name, numbers in drawn.items()
    } == real


def bare_statuses(text: str) -> list[int]:
    """Lines of *text*, a module, with a number of the table where an exit status belongs."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        names: list[ast.expr] = []
        values: list[ast.expr] = []
        match node:
            case ast.Call():
                names, values = [node.func], node.args
            case ast.Assign():
                names, values = node.targets, [node.value]
            case ast.Compare():
                names, values = [node.left], node.comparators
            case ast.Return():
                names, values = [ast.Name("status")], [node.value] if node.value else []
            case _:
                continue
        ends = {
            name.id if isinstance(name, ast.Name) else getattr(name, "attr", "") for name in names
        }
        numbers = {
            n.value
            for value in values
            for n in [value, *getattr(value, "elts", [])]
            if _is_number(n)
        }
        if ends & set(ENDS) and numbers & (set(STATUSES.values()) - {0, 1, 2}):
            found.add(node.lineno)
        if ends & {"exit", "_exit"} and numbers - {0}:
            found.add(node.lineno)
    return sorted(found)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def test_no_status_stands_elsewhere() -> None:
    """A module that ends the program names the reason."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "errors.py"]
    assert len(modules) > 30
    assert {
        path.name: lines for path in modules if (lines := bare_statuses(path.read_text()))
    } == {}


@pytest.mark.parametrize(
    "text",
    [
        "sys.exit(3)",
        "os._exit(125)",
        "STOPPED = 75",
        "error = ChildError('no', 'yes', 127)",
        "def f():\n    return 70",
        "code in (77, 78)",
    ],
)
def test_a_bare_status_is_seen(text: str) -> None:
    """Control: these are the ways in which they stood there."""
    assert bare_statuses(text) != []
