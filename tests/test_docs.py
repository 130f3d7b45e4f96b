"""README and docs: their commands compose, their links lead somewhere, and the site builds."""

import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from keyframe.cli import main
from keyframe.cli.arguments import check_values, prepare, split_inputs, without_hyphens
from tests.commands import ROOT, cold, composed
from tests.test_architecture import LAYERS


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "experiments").rglob("*.md"))]


def commands_of(page):
    """The keyframe commands of a page's code blocks, a line each."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    return re.findall(r"(?m)^(?: {4,}|\$ )(keyframe-\w+(?: .*)?)$", text)


COMMANDS = sorted({line for page in PAGES for line in commands_of(page)})


def test_there_are_commands_of_each_program():
    assert {line.split()[0].removeprefix("keyframe-") for line in COMMANDS} == set(main.COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_composes(line, monkeypatch):
    """Its options are there and its keys are read. What it does is tested where the command is."""
    monkeypatch.chdir(ROOT / "examples" / "own_package")
    monkeypatch.syspath_prepend(Path.cwd())
    line = re.sub("<time[^>]*>", "A", line).replace("ckpt_path=last", "ckpt_path=auto")
    program, *typed = shlex.split(line, comments=True)
    if typed and (typed[-1] == "..." or typed[0].startswith("sweep.resume=")):  # where the others were given before
        typed = [*(one for one in typed if one != "..."), "data=demo"]
    name = program.removeprefix("keyframe-")
    others, inputs = split_inputs(typed) if name in ("extract", "features", "app") else (typed, [])
    assert not [one for one in inputs if "=" in one]
    prepared = prepare(without_hyphens(others))
    plain = [one for one in prepared if not one.startswith("-")]
    for override in OverridesParser.create().parse_overrides(plain):
        if override.is_sweep_override():
            assert "-m" in prepared
            plain.remove(str(override.input_line))
            plain.append(f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}")
    check_values(composed(name, plain), name)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built with warnings, such as a link that leads nowhere, as errors."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.full
def test_the_site_builds(site):
    page = (site / "evaluation.html").read_text(encoding="utf-8")
    assert "<math" in page and not re.search(r"""(src|href)="https?://[^"]*\.(js|css|woff2?)""", page)


@pytest.mark.full
def test_the_site_is_searched_without_network(site, browser):
    """In the dark, on a phone: the search finds the section of a term, and no page is wider than the screen."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site))) as server:
        Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
        troubles = []
        page.on("request", lambda one: None if one.url.startswith(address) else troubles.append(one.url))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(f"{address}index.html")
        assert page.evaluate("document.body.dataset.mdColorScheme") == "slate"
        page.click("header label[for=__search]")
        page.fill(".md-search__input", "sign-flip")
        page.wait_for_selector(".md-search-result__item a[href*='evaluation.html']")
        for name in ("index", "training", "extraction", "evaluation", "reference"):
            page.goto(f"{address}{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") == 360, name
        page.close()
        server.shutdown()
    assert not troubles


@pytest.mark.parametrize("page", [ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """The site's build sees those of docs."""
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_architecture_page_lists_the_layers():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Layers")[2]
    assert tuple(re.findall(r"(?m)^    (\w+) {2,}", text.partition("\n## ")[0])) == LAYERS


def test_the_first_page_is_short():
    assert (ROOT / "README.md").stat().st_size <= 10_000


TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
SCORED = [(0, 5, "anna"), (4, 2, "anna"), (0, 4, "ben"), (6, 3, "ben")]


def quick(program, typed):
    """A tutorial's arguments, with small pictures, random weights, one epoch, two heads, two folds, and one seed."""
    if program == "keyframe-train":
        folds = ["data.fold=0,1"] if {"-m", "experiment=cross_validation"} & set(typed) else []
        size = [] if "data=h5" in typed else ["backbone.pretrained=false", "data.size=32"]
        kept = [one.replace(",dual,", ",") for one in typed if not one.startswith(("data.fold=", "seed="))]
        short = ["trainer.max_epochs=1", "finetune=frozen", "callbacks.curves=null"]
        return [*kept, *folds, *size, "trainer=cpu", *short]
    more = {
        "features": ["backbone.pretrained=false", "size=32"],
        "doctor": ["backbone.pretrained=false"],
        "evaluate": ["pictures=1"],
        "compare": ["pictures=1", "speed.videos=[1]", "speed.repeats=1", "memory.videos=[]"],
    }
    return [*typed, *more.get(program.removeprefix("keyframe-"), [])]


@pytest.mark.full
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, command, tiny_demo, tmp_path):
    """Its blocks, in order, in one folder."""
    (made,) = tiny_demo.glob("demo-*")
    videos = sorted((made / "videos").iterdir())
    for folder, names in (("holiday", ["beach"]), ("mine", [f"clip{n:02}" for n in range(1, 13)]), ("videos", None)):
        (tmp_path / folder).mkdir()
        for number, video in enumerate(videos):
            name = video.stem if names is None else names[number] if number < len(names) else None
            if name is not None:
                (tmp_path / folder / f"{name}.mp4").symlink_to(video)
    shutil.copy(videos[-1], tmp_path / "new.mp4")
    (tmp_path / "labels.tsv").symlink_to(next(made.glob("*.tsv")))
    rows = [f"clip{n:02},{at},{at + 2},{score},{who}" for n in range(1, 13) for at, score, who in SCORED]
    (tmp_path / "mine" / "labels.csv").write_text("\n".join(["video,start,end,score,annotator", *rows]))
    blocks = re.findall(r"(?ms)^```(\w+)(?: file=(\S+))?\n(.*?)^```$", page.read_text(encoding="utf-8"))
    assert len(blocks) > 2
    for language, file, text in blocks:
        if file:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(text)
        elif language == "python":
            cold(["-c", text], tmp_path).good()
        else:
            for line in text.splitlines():
                program, *typed = shlex.split(line)
                command(*quick(program, typed), program=program, at=tmp_path).good()
    made_of = {"holiday": "best", "labels": "outputs/extract/new", "heads": "outputs/compare/heads"}
    assert any((tmp_path / made_of[page.stem]).iterdir())
