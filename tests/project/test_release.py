"""What says which version this is says the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
LATEST = re.search(r"^## (\S+), (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def cited(key):
    return re.search(rf"^{key}: (.*)$", CITATION, re.MULTILINE).group(1)


def test_project_citation_and_changes_name_one_version_and_one_date():
    assert cited("version") == PROJECT["version"] == LATEST.group(1)
    assert cited("date-released") == LATEST.group(2)


def test_the_newest_entry_of_the_changes_stands_first():
    first = next(line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:3] == "## ")
    assert first == LATEST.group(0)


@pytest.mark.parametrize(("page", "file"), [("changes", "CHANGELOG.md"), ("cite", "CITATION.cff")])
def test_the_site_includes_changes_and_citation_as_they_are(page, file):
    lines = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").splitlines()
    assert f'--8<-- "{file}"' in lines and f"]({file})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_title_license_and_authors_agree():
    assert (cited("title"), cited("license")) == (PROJECT["name"], PROJECT["license"])
    (author,) = PROJECT["authors"]
    assert f"  - name: {author['name']}\n" in CITATION
    holder = author["name"].removeprefix("The ")
    assert f" The {holder}\n" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_every_python_that_is_named_is_tried():
    named = {line.split()[-1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    workflow = ROOT / ".github" / "workflows" / "ci.yml"
    if workflow.exists():  # a source distribution comes without it
        assert set(re.findall(r'"(3\.\d+)"', workflow.read_text(encoding="utf-8"))) == named
    assert PROJECT["requires-python"] == f">={min(named, key=lambda v: int(v.split('.')[1]))}"
