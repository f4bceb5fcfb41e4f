"""The pages of the documentation as what they are to a reader: code to run, and what it prints.

`python -m tools.docs_pages` (`make docs-outputs`) runs them and writes the outputs below the examples anew.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from tests.hub_server import Client, Failure, Hub
from timm_inject.offline import create_packaged_model

ROOT = Path(__file__).parent.parent
MODEL = "tf_efficientnet_lite0"
# In the order of the site: a page may use what an earlier one has saved.
GUIDE = ("add", "improve", "calibration", "evaluate", "fine-tune", "share", "undo", "encoders")
PAGES = (
    "README.md",
    "docs/index.md",
    "docs/how-it-works.md",
    *(f"docs/guide/{name}.md" for name in GUIDE),
    "docs/limits.md",
    "docs/models.md",
    "docs/faq.md",
    "docs/benchmarks.md",
    "docs/design.md",
    "docs/command-line.md",
    "docs/reference.md",
    "docs/contributing.md",
)
# These take too long, or change what is not theirs; that they parse is checked.
_NOT_RUN = ("demo",)
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: "python", "sh", "text" or "".
        text: What stands inside.
        line: Of its first line, from 1.
        start: Where its text begins in the page.
        follows: Whether nothing but blank lines stands between it and the block before.
    """

    language: str
    text: str
    line: int
    start: int
    follows: bool


def read_blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    content, end = page_text(page), 0
    blocks: list[Block] = []
    for match in _FENCE.finditer(content):
        start = match.start("text")
        follows = bool(blocks) and not content[end : match.start()].strip()
        blocks.append(Block(match["language"], match["text"], content[:start].count("\n") + 1, start, follows))
        end = match.end()
    return blocks


def page_text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def command_lines(block: Block) -> list[str]:
    """The lines that call `timm-inject`, without their comments."""
    lines = [re.sub(r"\s+#.*", "", line) for line in block.text.splitlines()]
    return [line for line in lines if line.startswith("timm-inject ")]


class Reader:
    """Does what the pages say, in a folder of its own, with the real client of a Hub on 127.0.0.1 that holds the model.

    The encoder is the packaged one. The Hub knows one user, who is called alice.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self._hub = Hub()
        weights = save(create_packaged_model(MODEL).state_dict())
        self._hub.add(f"timm/{MODEL}.in1k", {"model.safetensors": weights})
        self._hub.add("somebody-else/model", {})
        self._client = Client(self._hub, str(folder / "home"), cache=cache)
        _put_files(folder)
        self._run(_PREPARE.format(root=str(ROOT), folder=str(folder)))

    def close(self) -> None:
        self._client.close()
        self._hub.close()

    def read(self, page: str, block: Block) -> str:
        """Run one block and give what it prints.

        Raises:
            AssertionError: It fails; the text names the page's line.
        """
        if block.language == "python":
            code = block.text.replace("user/", "alice/")
            return self._run(f"value = read({page!r}, {chr(10) * (block.line - 1) + code!r})")
        lines = [line.replace("user/", "alice/") for line in command_lines(block) if line.split()[1] not in _NOT_RUN]
        return "".join(self._run(f"value = command({page!r}, {line!r})") for line in lines)

    def _run(self, code: str) -> str:
        result = self._client.run(code)
        assert not isinstance(result, Failure), f"{result.kind}: {result.message}"
        return result


_PREPARE = """
import contextlib, io, os, shlex, sys, traceback
import timm_inject.offline, timm_inject.text.encoder
from timm_inject.cli.main import main
timm_inject.text.encoder.hub_is_reachable = timm_inject.offline.hub_is_reachable = lambda: False
sys.path.insert(0, {root!r})
os.chdir({folder!r})
spaces = {{}}

def read(page, code):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, page, "exec"), spaces.setdefault(page, {{"__name__": "__main__"}}))
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == page]
        raise RuntimeError(f"{{page}}:{{lines[-1:]}}: {{type(error).__name__}}: {{error}}") from error
    return out.getvalue()

def command(page, line):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(line)[1:])
    if code != 0:
        raise RuntimeError(f"{{page}}: {{line}}: {{code}}: {{err.getvalue()}}")
    return out.getvalue()
"""


def _put_files(folder: Path) -> None:
    """The files that examples read: a photo, a folder of photos, and lists of names."""
    flower = packaged_file("sklearn", "datasets/images/flower.jpg")
    shutil.copy(flower, folder / "photo.jpg")
    for name in ("dahlia", "daisy"):
        (folder / "photos" / name).mkdir(parents=True)
        shutil.copy(flower, folder / "photos" / name)
    (folder / "names.txt").write_text("# new\nokapi\nelectric scooter: a two-wheeled vehicle to stand on\n", encoding="utf-8")
    (folder / "known.txt").write_text("".join(f"kind {number}\n" for number in range(30)), encoding="utf-8")


def packaged_file(package: str, file: str) -> Path:
    return Path(str(importlib.resources.files(package))) / file


def masked(text: str) -> str:
    """Without figures and without blanks at the ends of lines."""
    return "\n".join(re.sub(r"\d+(\.\d+)?", "#", line).rstrip() for line in text.strip().splitlines())


def figures(text: str) -> list[float]:
    return [float(figure) for figure in re.findall(r"\d+(?:\.\d+)?", text)]


def outputs(reader: Reader, page: str) -> Iterator[tuple[Block, Block | None, str]]:
    """Run a page: each block that runs, the block that shows what it prints if there is one, and what it printed."""
    blocks = read_blocks(page)
    for position, block in enumerate(blocks):
        if block.language in ("python", "sh"):
            shown = [following for following in blocks[position + 1 : position + 2] if following.language == "text"]
            yield block, next((following for following in shown if following.follows), None), reader.read(page, block)


def main() -> int:
    """Run every page and write the outputs that it shows anew."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        contextlib.closing(Reader(Path(temporary), Path(os.environ.get("TIMM_INJECT_CACHE", f"{temporary}/cache")))) as reader,
    ):
        for page in PAGES:
            content, done = page_text(page), 0
            parts = []
            for _, shown, printed in outputs(reader, page):
                if shown is not None:
                    text = "".join(f"{line.rstrip()}\n" for line in printed.strip().splitlines())
                    parts += [content[done : shown.start], text]
                    done = shown.start + len(shown.text)
            parts.append(content[done:])
            (ROOT / page).write_text("".join(parts), encoding="utf-8")
            print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
