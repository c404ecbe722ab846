"""Every rule of docs/spec.md is cited by both packages and has a test that bears its number."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = re.findall(r"^## S(\d+) ", (ROOT / "docs" / "spec.md").read_text(encoding="utf-8"), re.MULTILINE)
IMPLEMENTS = re.compile(r"Implements (S\d+(?:(?:, | and )S\d+)*)")


def nodes(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield from ((path, node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def rules_implemented_in(package):
    """Rules after the word "Implements" in docstrings, and which of them in the code that both packages share."""
    found, shared = set(), set()
    for path, node in nodes(package):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            for rules in IMPLEMENTS.findall(ast.get_docstring(node) or ""):
                numbers = set(re.findall(r"\d+", rules))
                found |= numbers
                shared |= numbers if "common" in path.parts else set()
    return found, shared


REFERENCE, SHARED = rules_implemented_in("slide_ref")
FAST = rules_implemented_in("slide_fast")[0] | SHARED
TESTED = {
    number
    for _, node in nodes("tests")
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    for number in re.findall(r"(?<=_s)\d+(?=_)", node.name)
}


def test_rules_are_numbered_in_order():
    assert [int(rule) for rule in RULES] == list(range(1, len(RULES) + 1))


@pytest.mark.parametrize("rule", RULES)
def test_both_packages_cite_the_rule(rule):
    assert rule in REFERENCE, f"no docstring of slide_ref implements S{rule}"
    assert rule in FAST, f"no docstring of slide_fast implements S{rule}"


@pytest.mark.parametrize("rule", RULES)
def test_a_test_bears_the_number_of_the_rule(rule):
    assert rule in TESTED, f"no test has _s{rule}_ in its name"


def test_only_rules_of_the_specification_are_cited():
    assert set(RULES) >= REFERENCE | FAST | TESTED
