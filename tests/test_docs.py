"""README and the documentation: every example runs, every command parses, every link leads somewhere, the site builds."""

import ast
import contextlib
import doctest
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import timm_inject
from tests.helpers import needs_offline
from timm_inject.cli.main import _parser
from tools.docs_pages import (
    PAGES,
    ROOT,
    Block,
    Reader,
    command_lines,
    figures,
    masked,
    outputs,
    page_text,
    read_blocks,
)

needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings_handlers") is None,
    reason="the extra `docs` is not installed",
)
ALL_TEXT = "\n".join(map(page_text, PAGES))


@pytest.fixture(scope="module")
def reader(tmp_path_factory, cache_of_real_texts):
    with contextlib.closing(Reader(tmp_path_factory.mktemp("docs"), cache_of_real_texts)) as opened:
        yield opened


@pytest.fixture(scope="module")
def done():
    """The pages that were run, as a page may use what an earlier one has saved."""
    return set()


def _run_up_to(page, reader, done):
    for name in PAGES[: PAGES.index(page) + 1]:
        if name not in done:
            done.add(name)
            for block, shown, printed in outputs(reader, name):
                if shown is not None and name == page:
                    _check_output(f"{page}, line {block.line}", shown.text, printed)


def _check_output(where, shown, printed):
    assert masked(printed) == masked(shown), where
    # The last bits differ between CPUs. `make docs-outputs` writes the figures anew.
    assert figures(printed) == pytest.approx(figures(shown), rel=0.05, abs=0.02), where


RUNNING = [page for page in PAGES if any(block.language in ("python", "sh") for block in read_blocks(page))]


@pytest.mark.slow
@needs_offline
@pytest.mark.parametrize("page", RUNNING)
def test_examples_run_and_print_what_the_page_shows(page, reader, done):
    _run_up_to(page, reader, done)
    if page == "README.md":
        reader.read(page, _python("assert model.num_classes == 1000 and not hasattr(model, 'timm_inject_record')"))
        reader.read(page, _python("assert timm.create_model('hf-hub:user/lite0-plus', pretrained=True).num_classes == 1002"))


def _python(code, line=1):
    return Block("python", code, line, 0, False)


@needs_offline
def test_a_broken_example_fails_with_its_place(reader):
    with pytest.raises(AssertionError, match=r"README\.md:\[7\]: ZeroDivisionError"):
        reader.read("README.md", _python("pass\n1 / 0", line=6))
    with pytest.raises(AssertionError, match="There is no mapper 'isis'"):
        reader.read(
            "README.md", Block("sh", "timm-inject inject tf_efficientnet_lite0 okapi --mapper isis --output x", 1, 0, False)
        )
    with pytest.raises(AssertionError, match="here"):
        _check_output("here", "okapi 0.5\n", "okapi 0.6\n")
    with pytest.raises(AssertionError, match="here"):
        _check_output("here", "okapi 0.5\n", "coyote 0.5\n")


@needs_offline
def test_examples_in_docstrings_run(reader):
    for name, text in (("package", timm_inject.__doc__), ("inject", timm_inject.inject.__doc__)):
        examples = doctest.DocTestParser().get_examples(text)
        assert len(examples) > 2
        # The test's Hub holds one model.
        lines = [example.source.replace("resnet50.a1_in1k", "tf_efficientnet_lite0.in1k") for example in examples]
        checks = [f"assert repr({e.source.strip()}) == {e.want.strip()!r}\n" for e in examples if e.want]
        reader.read(f"docstring of {name}", _python("".join([*lines, *checks])))


def test_commands_parse():
    blocks = [block for page in PAGES for block in read_blocks(page) if block.language == "sh"]
    lines = [line for block in blocks for line in command_lines(block)]
    inline = [text for text in re.findall(r"`timm-inject ([^`…]+)`", ALL_TEXT) if " " in text and "COMMAND" not in text]
    lines += [f"timm-inject {text}" for text in inline]
    assert len(lines) > 15
    for line in lines:
        # Figures stand for N, so that an option of that type takes it.
        words = ["1" if word == "N" else word for word in shlex.split(line)[1:]]
        try:
            _parser().parse_args(words)
        except SystemExit:
            # Prose names some commands with an option or two, and leaves out what else they need.
            assert f"`{line}`" in ALL_TEXT, line
            with pytest.raises(SystemExit, match="0"):
                _parser().parse_args([words[0], "--help"])


def test_command_page_names_every_command():
    page = page_text("docs/command-line.md")
    commands = re.findall(r"\{([\w,-]+)\}", _parser().format_usage()) or [",".join(_subcommands())]
    for command in commands[0].split(","):
        assert f"\ntimm-inject {command}" in page, command


def _subcommands():
    actions = _parser()._subparsers._group_actions[0]
    return list(actions.choices)


def test_other_shell_lines_name_what_exists():
    makefile = (ROOT / "Makefile").read_text()
    pyproject = (ROOT / "pyproject.toml").read_text()
    shell = "\n".join(block.text for page in PAGES for block in read_blocks(page) if block.language == "sh")
    targets = re.findall(r"^make (\S+)", shell, re.MULTILINE) + re.findall(r"`make ([\w-]+)", ALL_TEXT)
    assert {"demo", "test", "docs", "benchmark"} < set(targets)
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
    assert [extra for extra in re.findall(r"pip install \"\.\[(\w+)\]\"", shell) if f"\n{extra} = [" not in pyproject] == []
    assert [file for file in re.findall(r"examples/\w+\.py", ALL_TEXT) if not (ROOT / file).is_file()] == []
    known = ("timm-inject ", "make ", "pip install ", "python -m benchmarks ")
    assert [line for line in shell.splitlines() if line.strip() and not line.startswith(known)] == []


def test_code_map_names_files_that_exist():
    section = page_text("docs/contributing.md").split("## The map")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+\.py)`", section))
    package = ROOT / "timm_inject"
    assert named <= {path.name for path in package.glob("*.py")}
    assert {path.name for path in package.glob("*.py")} - named <= {"__init__.py", "version.py"}
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").is_file()}
    assert folders == set(re.findall(r"`(\w+)/`", section)) & folders


def test_every_page_is_read_and_in_the_menu():
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages | {"README.md"} == set(PAGES)
    menu = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(f"docs/{page}" for page in menu) == sorted(pages)


def test_reference_has_every_public_name():
    page = page_text("docs/reference.md")
    told = set(re.findall(r"^::: timm_inject\.(?:\w+\.)?(\w+)$", page, re.MULTILINE)) | set(
        re.findall(r"`timm_inject\.(\w+)`", page)
    )
    tree = ast.parse((ROOT / "timm_inject" / "errors.py").read_text())
    errors = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert set(timm_inject.__all__) == (told - {"errors"}) | errors


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", page_text(page), flags=re.MULTILINE | re.DOTALL))
    local = [urlsplit(link).path for link in links if not urlsplit(link).scheme]
    assert [link for link in local if link and not (ROOT / page).parent.joinpath(unquote(link)).is_file()] == []
    if page != "README.md":  # the site holds nothing else
        assert all((ROOT / page).parent.joinpath(link).resolve().is_relative_to(ROOT / "docs") for link in local)


def test_results_are_where_the_commands_write_them():
    makefile = (ROOT / "Makefile").read_text()
    written = re.findall(
        r"^\t\$\(BIN\)/python -m benchmarks (\S+) .*--update-readme docs/benchmarks\.md( README\.md)?$", makefile, re.M
    )
    assert {name for name, _ in written} > {"price", "words", "imagenet", "cub", "estimates", "self-score"}
    for name, in_readme in written:
        assert page_text("docs/benchmarks.md").count(f"\n<!-- benchmark:{name} -->\n") == 1
        assert page_text("README.md").count(f"\n<!-- benchmark:{name}-summary -->\n") == bool(in_readme)


# --- the site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stdout + result.stderr
    return folder


class _Page(HTMLParser):
    """The ids of an HTML page, what its links lead to, and what a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        told = {key: value for key, value in attrs if value}
        self.ids.update(told[key] for key in ("id", "name") if key in told)
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        elif tag in ("link", "script", "img", "iframe"):
            self.loaded += [told[key] for key in ("href", "src") if key in told]


@needs_mkdocs
def test_site_builds_without_a_warning_and_its_links_resolve(site):
    pages = {path: _Page(path) for path in site.rglob("*.html")}
    assert {path.relative_to(site).as_posix() for path in pages} > {"index.html", "reference.html", "guide/add.html"}
    checked, broken = 0, []
    for path, page in pages.items():
        if path.name == "404.html":  # its links start at the root of a server
            continue
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path.parent.joinpath(unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            checked += 1
            known = pages[target].ids if target in pages else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert checked > 500
    assert broken == []


@needs_mkdocs
def test_site_loads_nothing_from_elsewhere_and_documents_every_public_name(site):
    loaded = [link for path in site.rglob("*.html") for link in _Page(path).loaded]
    assert [link for link in loaded if urlsplit(link).netloc] == []
    assert all("fonts.googleapis" not in path.read_text(encoding="utf-8") for path in site.rglob("*.html"))
    ids = _Page(site / "reference.html").ids
    for name in set(timm_inject.__all__) - {"DEFAULT_ENCODER", "__version__"}:
        assert ids & {f"timm_inject.{name}", f"timm_inject.{name}.{name}", f"timm_inject.errors.{name}"}, name
