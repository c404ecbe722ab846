"""The site is built without warnings, every link on it leads somewhere, and its pages keep to their length."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINES = {"results.md": 200, "performance.md": 80}
DATED = re.compile(r"\b(?:today|since\s+then)\b", re.IGNORECASE)


class Page(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.places = set(), {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "xlink:href", "src") and value is not None:
                self.targets.add(value)
            elif name == "srcset" and value is not None:
                self.targets.update(part.split()[0] for part in value.split(",") if part.split())
            elif name == "id" or (tag == "a" and name == "name"):
                self.places.add(value)


def broken_links(site):
    """Pages and what they link to where there is no such file or place; links to other sites are passed over."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for target in sorted(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = path
            if parts.path:
                start = site.resolve() if parts.path.startswith("/") else path.parent
                file = (start / unquote(parts.path).lstrip("/")).resolve()
                file = file / "index.html" if file.is_dir() else file
            is_there = file.is_file() and file.is_relative_to(site.resolve())
            if not is_there or (file in pages and unquote(parts.fragment) not in pages[file].places):
                yield f"{path.relative_to(site.resolve())}: {target}"


def built(target):
    """Build the site of this repository. Warnings are errors."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_every_link_and_picture_of_the_site_is_there(tmp_path):
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name)
    done = built(tmp_path / "site")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    for page in PAGES:
        name = page.relative_to(ROOT / "docs").with_suffix("")
        folder = name.parent if name.name == "index" else name
        assert (tmp_path / "site" / folder / "index.html").is_file(), page
    assert list(broken_links(tmp_path / "site")) == []


LINKS = {
    '<img src="../pictures/here.svg">': True,
    '<img src="../pictures/gone.svg">': False,
    '<a href="../">': True,
    '<a href="../#place">': True,
    '<a href="../index.html#gone">': False,
    '<a href="#own"><h2 id="own">': True,
    '<a href="#gone">': False,
    '<link href="/pictures/here.svg">': True,
    '<a href="../../outside.html">': False,
    '<a href="https://example.org/gone">': True,
}


@pytest.mark.parametrize(("html", "is_whole"), LINKS.items(), ids=LINKS)
def test_a_broken_link_or_picture_is_noticed(html, is_whole, tmp_path):
    site = tmp_path / "site"
    (site / "pictures").mkdir(parents=True)
    (site / "page").mkdir()
    (site / "pictures" / "here.svg").write_text("<svg/>")
    (site / "index.html").write_text('<h1 id="place">')
    (tmp_path / "outside.html").write_text("")
    (site / "page" / "index.html").write_text(html)
    assert (list(broken_links(site)) == []) is is_whole


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_do_not_speak_of_the_day_they_were_written(page):
    assert DATED.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("name", "most"), LINES.items())
def test_pages_of_figures_stay_short(name, most):
    assert len((ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()) <= most
