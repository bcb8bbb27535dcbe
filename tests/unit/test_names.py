"""Names of tests are short enough to read."""

import ast
from pathlib import Path

LIMIT = 60  # characters, of the function alone
TESTS = Path(__file__).parents[1]


def test_names_of_tests_have_less_than_60_characters():
    names = [
        (len(node.name), f"{path.relative_to(TESTS)}::{node.name}")
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 500
    assert [name for length, name in names if length >= LIMIT] == []
