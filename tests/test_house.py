"""The house: which module may import which, how many lie flat, what each room hands out, and what an import costs."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import timm_inject

PACKAGE = "timm_inject"
ROOT = Path(timm_inject.__file__).parent
# Lowest first. A module imports only what lies on a lower floor, or beside it in its own room.
FLOORS = (
    "errors",
    "version",
    "io",
    "io",
    "cache",
    "offline",
    "head",
    "text",
    "mappers",
    "injected",
    "images",
    "calibration",
    "hub",
    "problem",
    "verbs",
    "inject",
    "cli",
)
ROOMS = [floor for floor in FLOORS if (ROOT / floor / "__init__.py").is_file()]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *parts)).removesuffix(".__init__")


SOURCES = {module_of(path): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}


@dataclass(frozen=True)
class Import:
    """That one module of the package, at one line, imports another."""

    module: str
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def imports_of(module: str, source: str) -> Iterator[Import]:
    """What a module imports of the package, also inside functions. `from a import b` means a.b where that is a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            base = node.module or ""
            targets = [inner if (inner := f"{base}.{alias.name}") in SOURCES else base for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [f"{PACKAGE}.(relative)"]
        else:
            continue
        for target in targets:
            if target == PACKAGE or target.startswith(f"{PACKAGE}."):
                yield Import(module, node.lineno, target)


def floor_of(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]


def fault_of(found: Import) -> str | None:
    """What is wrong with an import, or None."""
    own, other = floor_of(found.module), floor_of(found.target)
    if own == "":  # timm_inject/__init__.py stands above all floors
        return "reaches past an __init__" if found.target.count(".") > 1 else None
    if other not in FLOORS:
        return "is on no floor"
    if own == other:
        return None if found.target.count(".") > 1 else "goes round through its own __init__"
    if FLOORS.index(other) > FLOORS.index(own):
        return "climbs"
    return "reaches past an __init__" if found.target.count(".") > 1 else None


ALL_IMPORTS = [found for module, source in SOURCES.items() for found in imports_of(module, source)]


def test_every_module_is_on_a_floor():
    assert {floor_of(module) for module in SOURCES} == {"", *FLOORS}


def test_rooms_import_lower_rooms_through_their_front_door():
    assert len(ALL_IMPORTS) > 150  # so that they are known to be found
    assert [f"{found}: {fault}" for found in ALL_IMPORTS if (fault := fault_of(found))] == []


@pytest.mark.parametrize(
    ("module", "line", "fault"),
    [
        ("text.names", "from timm_inject.head.leaf import Leaf", "reaches past an __init__"),
        ("text.names", "from timm_inject.head import leaf", "reaches past an __init__"),
        ("text.names", "import timm_inject.head.leaf", "reaches past an __init__"),
        ("text.names", "def late():\n    from timm_inject.mappers import Mapper", "climbs"),
        ("text.names", "import timm_inject", "is on no floor"),
        ("text.names", "from .synsets import Synset", "is on no floor"),
        ("text.names", "from timm_inject.text import Synset", "goes round through its own __init__"),
        ("problem", "from timm_inject.inject import inject", "climbs"),
        ("text.names", "from timm_inject.text.synsets import Synset", None),
        ("text.names", "from timm_inject.head import Leaf", None),
        ("text.names", "from timm_inject.errors import EncoderError", None),
        ("text.names", "from timm_injector import Leaf", None),
    ],
)
def test_a_wrong_import_would_be_noticed(module, line, fault):
    found = list(imports_of(f"{PACKAGE}.{module}", line))
    assert [fault_of(each) for each in found] == ([fault] if "timm_injector" not in line else [])


def circle(imports):
    """Modules that import each other in a ring, or an empty list."""
    graph: dict[str, set[str]] = {}
    for found in imports:
        graph.setdefault(found.module, set()).add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other():
    assert circle(ALL_IMPORTS) == []
    back = Import("timm_inject.text.synsets", 1, "timm_inject.text.names")
    assert set(circle([*ALL_IMPORTS, back])) == {"timm_inject.text.synsets", "timm_inject.text.names"}


def test_few_modules_lie_flat():
    flat = sorted(path.stem for path in ROOT.glob("*.py"))
    assert len(flat) <= 8, flat


def test_import_is_light_and_silent():
    """A fresh process: what `timm` does not load either stays out."""
    heavy = ("sentence_transformers", "matplotlib", "sklearn", "scipy")
    code = f"import sys, timm_inject; sys.exit(', '.join(name for name in {heavy} if name in sys.modules) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["", *ROOMS])
def test_what_a_room_hands_out_exists_and_is_sorted(name):
    room = importlib.import_module(f"{PACKAGE}.{name}".removesuffix("."))
    assert [each for each in room.__all__ if not hasattr(room, each)] == []
    assert len(set(room.__all__)) == len(room.__all__)
    # As ruff sorts them: constants, then classes, then the rest.
    assert list(room.__all__) == sorted(room.__all__, key=lambda each: (not each.isupper(), not each[:1].isupper(), each))
