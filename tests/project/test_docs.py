"""README and documentation say what is true: their Python and their commands run, their links lead somewhere."""

import http.client
import importlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from problems import random_dataset

from slide_fast.cli.main import main
from slide_fast.data import write_xmc

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SLIDE = f'set -euo pipefail\nslide() {{ "{sys.executable}" -m slide_fast "$@"; }}\n'
ELSEWHERE = {  # no test asks the network: whoever adds one opens it once
    "https://arxiv.org/abs/1903.03129",
    "https://arxiv.org/abs/2310.10636",
    "https://github.com/tomtung/omikuji",
    "https://pypi.org/project/argcomplete/",
    "https://pypi.org/project/shtab/",
}
SOURCES = sorted(path for package in ("slide_fast", "slide_ref") for path in (ROOT / package).rglob("*.py"))
WRITTEN = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *SOURCES]
DOTTED = re.compile(r"(?<![\w./])slide_(?:fast|ref)(?:\.\w+)+")
FILE = re.compile(r"(?<![\w./])(?:slide_fast|slide_ref|tests|benchmarks|docs)/[\w/]+\.(?:py|md|txt|json)")
LONG = ("pip install", "slide demo")  # tried in tests of their own
RESULTS = ROOT / "benchmarks" / "results"
RESULT = re.compile(r"`(?:benchmarks/results/)?([\w*.-]+\.json)`")
OF_MODELS = {"config.json", "features.json", "label_values.json"}
LOGGED = re.compile(r"`(?:benchmarks/)?LOG\.md`")


def blocks(language):
    found = {page: BLOCK.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    texts = {page: [text for kind, text in pairs if kind == language] for page, pairs in found.items()}
    return [pytest.param(page, own, id=str(page.relative_to(ROOT))) for page, own in texts.items() if own]


def run(arguments, folder, **options):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, **options
    )


@pytest.mark.parametrize(("page", "texts"), [
    pytest.param(*block.values, id=block.id, marks=[] if block.id == "README.md" else pytest.mark.slow)
    for block in blocks("python")
])  # fmt: skip
def test_python_runs_as_printed(page, texts, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    done = run([sys.executable, "-c", "\n".join(texts)], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are ended otherwise there")
def test_the_server_that_is_shown_ends_with_the_answer_under_way(tmp_path):
    """As its script, by the signal of systemd and containers."""
    shown = BLOCK.findall((ROOT / "docs" / "how-to" / "http.md").read_text(encoding="utf-8"))
    (_, training), (_, server), (_, script) = shown[:3]
    (tmp_path / "server.py").write_text(f"{server}\n\n{script}", encoding="utf-8")
    assert run([sys.executable, "-c", training], tmp_path).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "server.py", "tagger", str(port), "0.0.0.0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    serving = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert serving.stdout.readline() == f"serving tagger on http://0.0.0.0:{port}\n"
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("GET", "/health")
        assert json.load(client.getresponse()) == {"status": "ok", "labels": 3}
        body = b'{"texts": ["the red car"], "k": 1}'
        client.request("POST", "/predict", body[:9], {"Content-Length": str(len(body))})
        serving.terminate()
        time.sleep(0.5)
        client.send(body[9:])
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (200, "close")
        assert json.load(answer)["labels"] == [["vehicle"]]
        assert serving.wait(20) == 0
    finally:
        serving.kill()
        serving.communicate()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the commands speak of: samples, texts, and a run."""
    folder = tmp_path_factory.mktemp("place")
    for i, name in enumerate(("train.txt", "test.txt", "new.txt")):
        write_xmc(folder / name, random_dataset(i))
    texts = [(f"history of {tag}s, part {i}", tag) for i in range(20) for tag in ("railway", "road", "ship")]
    for name in ("titles.tsv", "test.tsv"):
        (folder / name).write_text("title\tsubjects\n" + "".join(f"{text}\t{tag}|past\n" for text, tag in texts))
    for name in ("train.ft", "test.ft"):
        (folder / name).write_text("".join(f"__label__{tag} {text}\n" for text, tag in texts))
    (folder / "texts.txt").write_text("".join(f"{text}\n" for text, _ in texts))
    files = [f"{folder}/train.txt", "--test", f"{folder}/test.txt", "--out", f"{folder}/run"]
    assert main(["train", *files, "--epochs", "1"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("page", "texts"), blocks("sh"))
def test_commands_run_as_printed(page, texts, place, tmp_path):
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    if re.search(r"slide train .* --out run$", "".join(texts), re.MULTILINE):  # the page makes the run itself
        shutil.rmtree(tmp_path / "run")
    lines = [line for line in "".join(texts).splitlines() if not any(word in line for word in LONG)]
    done = run(["bash", "-c", SLIDE + "\n".join(lines)], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "texts"), blocks("sh"))
def test_commands_exist(page, texts):
    for command in re.findall(r"\bslide (\w+)", "".join(texts)):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])


def resolve(name):
    """The module, class, function or field of this full name."""
    parts = name.split(".")
    n_modules = max(i for i in range(1, len(parts) + 1) if i == 1 or is_module(".".join(parts[:i])))
    found = importlib.import_module(".".join(parts[:n_modules]))
    for part in parts[n_modules:]:
        if part not in getattr(found, "__annotations__", {}):
            found = getattr(found, part)
    return found


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_and_files_that_are_mentioned_exist(path):
    text = path.read_text(encoding="utf-8")
    for name in set(DOTTED.findall(text)):
        resolve(name)
    assert [file for file in set(FILE.findall(text)) if "NAME" not in file and not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    """Places within a page are checked by the strict build of the site."""
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_links_that_lead_elsewhere_are_known():
    """What stands in blocks of code is no link."""
    texts = [BLOCK.sub("", page.read_text(encoding="utf-8")) for page in PAGES]
    links = {link for text in texts for link in re.findall(r"https?://[^\s)>\"`]+", text)}
    assert links == ELSEWHERE


def test_pictures_are_what_their_script_draws(tmp_path):
    pytest.importorskip("matplotlib")
    folder = ROOT / "docs" / "pictures"
    (tmp_path / "draw.py").write_text((folder / "draw.py").read_text(encoding="utf-8"), encoding="utf-8")
    done = run([sys.executable, "draw.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("*.svg")} == {path.name for path in folder.glob("*.svg")}


def files_on_the_map():
    folders = []
    for line in BLOCK.findall((ROOT / "docs" / "map.md").read_text(encoding="utf-8"))[0][1].splitlines():
        name = line.split()[0]
        folders[(len(line) - len(line.lstrip())) // 2 :] = [name]
        if name.endswith(".py"):
            yield "".join(folders)


def test_the_map_has_a_line_for_every_file():
    folders = [ROOT / "slide_ref", ROOT / "slide_fast", ROOT / "benchmarks"]
    files = [path for folder in folders for path in folder.rglob("*.py") if not path.name.startswith("__")]
    assert sorted(files_on_the_map()) == sorted(path.relative_to(ROOT).as_posix() for path in files)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert page.relative_to(ROOT / "docs").as_posix() in navigation, page


def results_named_in(text):
    return set(RESULT.findall(text)) - OF_MODELS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_results_that_pages_name_exist(page):
    names = results_named_in(page.read_text(encoding="utf-8"))
    assert [name for name in sorted(names) if not list(RESULTS.glob(name))] == []


def sections_with_figures(text):
    """Sections with a table that holds decimal fractions; what stands in code counts as no figure."""
    for section in re.split(r"^#+ ", BLOCK.sub("", text), flags=re.MULTILINE):
        tables = "\n".join(line for line in section.splitlines() if line.startswith("|"))
        if re.search(r"\d\.\d", re.sub(r"`[^`]*`", "", tables)):
            yield section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_of_figures_name_their_file(page):
    """Or the log of measurements, where no file was kept."""
    sections = sections_with_figures(page.read_text(encoding="utf-8"))
    assert [one.splitlines()[0] for one in sections if not results_named_in(one) and not LOGGED.search(one)] == []


def test_a_table_of_figures_without_a_file_is_noticed():
    table = "## A\n\n{}\n\n| data | P@1 |\n|---|---|\n| x | 15.3 |\n\n## B\n\nFrom `floor.json`.\n"
    for named, is_found in (("`config.json`", False), ("`floor.json`", True), ("`benchmarks/results/a_*.json`", True)):
        (section,) = sections_with_figures(table.format(named))
        assert bool(results_named_in(section)) is is_found
    assert not list(sections_with_figures("# A\n\n| option |\n|---|\n| `-lr 0.5` |\n"))


def printed_on(page):
    """What each section of a page of scripts shows as printed: the result files that it names, its link, the lines."""
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        lines = [text.splitlines() for kind, text in BLOCK.findall(section) if kind == "text"]
        yield results_named_in(section), re.findall(r"\]\((gallery/\w+\.py)\)", section), lines


def test_the_gallery_shows_what_its_scripts_printed():
    """Word for word, each from the file that is named beside it."""
    folder, page = ROOT / "docs" / "gallery", (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    shown = list(printed_on(page))
    assert sorted(path.name for path in folder.glob("*.py")) == sorted(Path(link).name for _, [link], _ in shown)
    for [name], [link], [lines] in shown:
        result = json.loads((RESULTS / name).read_text())
        assert result["script"] == f"docs/{link}" and result["output"] == lines, name
        assert result["machine"]["cpu"] in page and "python benchmarks/gallery.py" in result["command"]
