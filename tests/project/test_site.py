"""The site is built without warnings, its links lead somewhere, its tables fit, and its pages keep to their length."""

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINES = {"results.md": 200, "performance.md": 80}
BROWSER = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")), None)
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


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name)
    target = tmp_path_factory.mktemp("of_docs") / "site"
    done = built(target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return target


@pytest.mark.slow
def test_every_link_and_picture_of_the_site_is_there(site):
    for page in PAGES:
        name = page.relative_to(ROOT / "docs").with_suffix("")
        folder = name.parent if name.name == "index" else name
        assert (site / folder / "index.html").is_file(), page
    assert list(broken_links(site)) == []


# Each page in turn in a frame of the given width; what is wider than its box there, and how many tables were looked at.
MEASURE = """<!doctype html><iframe width="WIDTH" height="844" style="border: 0"></iframe><script>
const frame = document.querySelector("iframe"), wide = [];
let tables = 0;
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
async function measure() {
  for (const page of PAGES) {
    await new Promise(done => { frame.onload = done; frame.src = page; });
    const inner = frame.contentDocument;
    const own = [...inner.querySelectorAll(".md-typeset table:not([class])")];
    for (let i = 0; i < 100 && own.some(table => !table.closest(".md-typeset__scrollwrap")); i++) await wait(20);
    tables += own.length;
    for (const [name, box] of [["page", inner.documentElement], ...own.map(table =>
        [table.rows[0].innerText.trim().replace(/\\s+/g, " "), table.closest(".md-typeset__scrollwrap")])]) {
      if (box.scrollWidth > box.clientWidth) wide.push([page, name]);
    }
  }
  await fetch("/", {method: "POST", body: JSON.stringify({tables, wide})});
}
measure();
</script>"""


class Measured(SimpleHTTPRequestHandler):
    """Serves the site, and takes what the page of `MEASURE` sends."""

    def do_POST(self):
        self.server.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def too_wide(site, width, profile):
    """Tables, by page and head, that are wider than their box in a browser's window of this many pixels; and how many
    tables there are in all."""
    pages = ["/" + path.relative_to(site).as_posix() for path in sorted(site.rglob("index.html"))]
    (site / "measure.html").write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGES", json.dumps(pages)))
    command = [BROWSER, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    command += ["--no-sandbox"] * (getattr(os, "geteuid", int)() == 0)  # root has none
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Measured, directory=str(site))) as server:
        server.found = queue.Queue()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command.append(f"http://127.0.0.1:{server.server_port}/measure.html")
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found = server.found.get(timeout=120)
        finally:
            browser.terminate()
            browser.wait(20)
            server.shutdown()
    return found["wide"], found["tables"]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome")
@pytest.mark.parametrize("width", (390, 1280))
def test_no_table_is_wider_than_its_page(width, site, tmp_path):
    wide, n_tables = too_wide(site, width, tmp_path)
    assert wide == []
    assert n_tables == sum(path.read_text(encoding="utf-8").count("<table>") for path in site.rglob("index.html"))


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
