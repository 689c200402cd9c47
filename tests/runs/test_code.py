"""Which code counts towards a fingerprint: what a run executes, and nothing else."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sa3d import registry
from sa3d.config.loading import load_experiment
from sa3d.errors import ConfigError
from sa3d.runs import code
from sa3d.runs.config import choose

ROOT = Path(__file__).parents[2]
TASKS = ("pretrain", "svm", "classify")
# Modules, and packages with all inside them, that say that no result depends on them. To add
# one, be sure that whatever it decides is in the settings, in the data or in a model's weights.
NEUTRAL = {
    "sa3d.cli",
    "sa3d.config",
    "sa3d.deploy",
    "sa3d.engine.signals",
    "sa3d.errors",
    "sa3d.inference",
    "sa3d.masking.gc.settings",
    "sa3d.masking.settings",
    "sa3d.methods.curves",
    "sa3d.methods.mae.settings",
    "sa3d.methods.sa3d.settings",
    "sa3d.methods.sa3df.settings",
    "sa3d.methods.settings",
    "sa3d.metrics.names",
    "sa3d.models.point_m2ae.settings",
    "sa3d.models.point_mae.settings",
    "sa3d.models.settings",
    "sa3d.published",
    "sa3d.registry",
    "sa3d.report",
    "sa3d.runs.code",
    "sa3d.runs.config",
    "sa3d.runs.context",
    "sa3d.runs.fingerprint",
    "sa3d.runs.launch",
    "sa3d.runs.lock",
    "sa3d.runs.naming",
    "sa3d.runs.pictures",
    "sa3d.runs.requirements",
    "sa3d.runs.result",
    "sa3d.runs.spec",
    "sa3d.runs.tags",
    "sa3d.service",
    "sa3d.show",
    "sa3d.tasks.base",
    "sa3d.tasks.classify.requires",
    "sa3d.tasks.classify.task",
    "sa3d.tasks.fewshot.task",
    "sa3d.tasks.segment.requires",
    "sa3d.tasks.segment.task",
    "sa3d.tasks.pretrain.task",
    "sa3d.tasks.svm.requires",
    "sa3d.tasks.svm.task",
    "sa3d.tracking",
    "sa3d.utils",
    "sa3d.viz",
}


def named(task: str, *overrides: str) -> list[str]:
    run = choose(load_experiment("demo", ROOT / "params.yaml", overrides), task)
    return code.components(run.task, run.deciding())


def roots(task: str, *overrides: str) -> list[str]:
    return [place.partition(":")[0] for place in named(task, *overrides)]


@functools.cache
def counted_files(task: str) -> set[Path]:
    return set(code.code_of(roots(task)).values())


def digest(*places: str) -> str:
    code._meaning.cache_clear()
    return str(code.code_digest.__wrapped__(*places))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that fingerprints are taken of."""
    folder = tmp_path / "sa3d"
    shutil.copytree(code._PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "_PACKAGE", folder)
    monkeypatch.setattr(code, "_kernels", dict)
    yield folder
    for cached in (code._imports, code._meaning, code._says_neutral):
        cached.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Writes modules of a package of its own, and gives the digest of ``sa3d.one``."""
    folder = tmp_path / "sa3d"
    folder.mkdir()
    monkeypatch.setattr(code, "_PACKAGE", folder)
    monkeypatch.setattr(code, "_kernels", dict)

    def write(one: str, files: dict[str, str] | None = None, **others: str) -> str:
        for name, text in ({"one": one} | (files or {}) | others).items():
            path = folder / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for cached in (code._imports, code._meaning, code._says_neutral):
            cached.cache_clear()
        return digest("sa3d.one")

    yield write
    for cached in (code._imports, code._meaning, code._says_neutral):
        cached.cache_clear()


# --- what counts of a source file ---------------------------------------------------------

SOURCE = '''\
"""A module."""
from math import pi

LIMIT = 3  #: the limit


class A:
    """A class."""

    size: int = 2
    """An attribute."""

    def area(self, r: float) -> float:
        """Area."""
        # of a disc
        return pi * r**2 if r < LIMIT else 0.0


class Empty(Exception):
    """Nothing but a text."""
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""A module."""\n', ""),
        ('"""A class."""', '"""Another text."""'),
        ('"""An attribute."""', '"""."""'),
        ('        """Area."""\n', ""),
        ('    """Nothing but a text."""', "    pass"),
        ("        # of a disc\n", ""),
        ("LIMIT = 3  #: the limit", "LIMIT=(3)"),
        (
            "pi * r**2 if r < LIMIT else 0.0",
            "(\n            pi * r ** 2 if r < LIMIT else 0.0\n        )",
        ),
        ("\n\n\nclass A", "\nclass A"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(
    package: Callable[..., str], before: str, after: str
) -> None:
    assert before in SOURCE
    assert package(SOURCE.replace(before, after)) == package(SOURCE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("r**2", "r**3"),
        ("r < LIMIT", "r <= LIMIT"),
        ("size: int = 2", "size: int = 20"),
        ("0.0\n", "0.5\n"),
        ("class Empty(Exception)", "class Empty(ValueError)"),
        ("def area", "def surface"),
    ],
)
def test_what_a_file_does_counts(package: Callable[..., str], before: str, after: str) -> None:
    assert before in SOURCE
    assert package(SOURCE.replace(before, after)) != package(SOURCE)


def test_a_text_that_is_used_counts(package: Callable[..., str]) -> None:
    assert package("KEY = 'a'\n") != package("KEY = 'b'\n")
    assert package("def f():\n    return 'a'\n") != package("def f():\n    return 'b'\n")


def test_the_order_of_statements_counts(package: Callable[..., str]) -> None:
    assert package("a = 1\nb = 2\n") != package("b = 2\na = 1\n")


# --- which files count --------------------------------------------------------------------

IMPORTS = [
    "from sa3d import two\n",
    "import sa3d.two\n",
    "import sa3d.two as other\n",
    "from sa3d.two import x\n",
    "from . import two\n",
    "from .two import x\n",
    "def f():\n    from sa3d.two import x\n",
    "class A:\n    def f(self):\n        import sa3d.two\n",
    "try:\n    import sa3d.two\nexcept ImportError:\n    pass\n",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import sa3d.two\n",
]


@pytest.mark.parametrize("source", IMPORTS)
def test_what_is_imported_counts_by_whatever_way(package: Callable[..., str], source: str) -> None:
    assert package(source, two="x = 1\n") != package(source, two="x = 2\n")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sa3d.two import x\n",
        "text = 'import sa3d.two'\n",
    ],
)
def test_what_is_not_imported_does_not_count(package: Callable[..., str], source: str) -> None:
    assert package(source, two="x = 1\n") == package(source, two="x = 2\n")


def test_what_imported_modules_import_counts_and_circles_end(package: Callable[..., str]) -> None:
    chain = {"two": "from sa3d import three\n"}
    first = package("import sa3d.two\n", **chain, three="import sa3d.one\nx = 1\n")
    assert package("import sa3d.two\n", **chain, three="import sa3d.one\nx = 2\n") != first


def test_the_init_of_a_package_counts(package: Callable[..., str]) -> None:
    one = "from sa3d.room.two import x\n"
    first = package(one, {"room/__init__": "y = 1\n", "room/two": "x = 1\n"})
    assert package(one, {"room/__init__": "y = 2\n", "room/two": "x = 1\n"}) != first


@pytest.mark.parametrize("mark", ["RESULT_NEUTRAL = True\n", "RESULT_NEUTRAL: Final = True\n"])
def test_a_module_that_says_so_is_left_out_with_all_it_imports(
    package: Callable[..., str], mark: str
) -> None:
    one, two = "import sa3d.two\n", f"import sa3d.three\n{mark}"
    first = package(one, two=two, three="x = 1\n")
    assert package(one, two=two + "y = 3\n", three="x = 2\n") == first


def test_a_package_that_says_so_is_left_out_whole(package: Callable[..., str]) -> None:
    one, mark = "from sa3d.room.two import x\n", "RESULT_NEUTRAL: Final = True\n"
    first = package(one, {"room/__init__": mark, "room/two": "x = 1\n"})
    assert package(one, {"room/__init__": mark, "room/two": "x = 2\n"}) == first


@pytest.mark.parametrize(
    "almost",
    ["RESULT_NEUTRAL = False\n", "RESULT_NEUTRAL: bool\n", "if x:\n    RESULT_NEUTRAL = True\n"],
)
def test_saying_something_else_leaves_nothing_out(package: Callable[..., str], almost: str) -> None:
    one = "import sa3d.two\n"
    assert package(one, two=f"{almost}y = 1\n") != package(one, two=f"{almost}y = 2\n")


def module_of(path: Path) -> str:
    parts = path.relative_to(code._PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_who_says_to_be_neutral() -> None:
    saying = {module_of(p) for p in code._PACKAGE.rglob("*.py") if code._says_neutral(p)}
    assert saying == NEUTRAL


# --- which modules a run of this project depends on ---------------------------------------

S = {"pretrain", "svm", "classify"}


@pytest.mark.parametrize(
    ("file", "tasks"),
    [
        ("layers/transformer.py", S),
        ("layers/heads.py", {"classify"}),
        ("models/__init__.py", S),
        ("models/point_mae/backbone.py", S),  # the backbone named
        ("models/point_mae/heads.py", {"classify"}),
        ("models/point_m2ae/backbone.py", set()),
        ("methods/sa3df/method.py", {"pretrain"}),  # the method named
        ("methods/sa3d/gc_predictor.py", {"pretrain"}),  # which it is made of
        ("methods/mae/method.py", set()),
        ("masking/gc/strategy.py", {"pretrain"}),  # the mask named
        ("masking/block.py", set()),
        ("masking/random.py", set()),
        ("data/store.py", S),
        ("data/transforms.py", {"pretrain", "classify"}),
        ("data/sources/shapes/source.py", set()),  # its result has a digest of its own
        ("engine/loop.py", {"pretrain", "classify"}),
        ("engine/signals.py", set()),
        ("tasks/evaluation.py", {"svm", "classify"}),
        ("tasks/classify/run.py", {"classify"}),
        ("tasks/classify/voting.py", {"classify"}),
        ("tasks/finetuning.py", {"classify"}),
        ("tasks/svm/features.py", {"svm"}),
        ("tasks/svm/search.py", {"svm"}),
        ("data/episodes.py", set()),
        ("tasks/classify/task.py", set()),
        ("utils/progress.py", set()),
        ("registry.py", set()),
        ("config/experiment.py", set()),
        ("cli/main.py", set()),
        ("tracking/tracker.py", set()),
        ("report/render.py", set()),
    ],
)
def test_code_counts_where_it_runs(file: str, tasks: set[str]) -> None:
    assert (code._PACKAGE / file).is_file()
    counted = {task for task in TASKS if code._PACKAGE / file in counted_files(task)}
    assert counted == tasks


def test_a_change_of_code_that_runs_changes_the_digest(sources: Path) -> None:
    before = {task: digest(*named(task)) for task in TASKS}
    with (sources / "tasks" / "evaluation.py").open("a") as source:
        source.write("# changed\n")
    assert {task: digest(*named(task)) for task in TASKS} == before
    with (sources / "tasks" / "evaluation.py").open("a") as source:
        source.write("CHANGED = 1\n")
    after = {task: digest(*named(task)) for task in TASKS}
    assert {task for task in TASKS if after[task] != before[task]} == {"svm", "classify"}


def test_components_count_wherever_they_are_named() -> None:
    task = registry.task("svm")
    settings: dict[str, Any] = {"a": [{"b": ("x", "gc")}, "rotate_y"], "c": {"d": {"e": "mae"}}}
    assert code.components(task, settings) == [
        "sa3d.data.transforms:rotate_y",
        "sa3d.masking.gc.strategy:GeometricMask",
        "sa3d.methods.mae.method:MAE",
        "sa3d.tasks.svm.run:run",
    ]
    assert code.components(task, {"gc": 1, "b": ["gcx", 3, None]}) == ["sa3d.tasks.svm.run:run"]


def test_another_attribute_of_the_same_module_is_another_component(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = digest(*named("pretrain"))
    monkeypatch.setitem(registry.AUGMENTATIONS, "scale_translate", "sa3d.data.transforms:none")
    assert digest(*named("pretrain")) != before


@pytest.mark.parametrize(
    ("override", "module"),
    [
        ("variants.sa3df.mask=block", "sa3d.masking.block"),
        ("variants.sa3df.mask=random", "sa3d.masking.random"),
        ("pretrain.augment=rotate_y", "sa3d.data.transforms"),
        ("reference=random-masks", "sa3d.methods.mae.method"),
    ],
)
def test_the_components_of_an_experiment_are_among_its_roots(override: str, module: str) -> None:
    assert module in roots("pretrain", override)


def test_the_backbone_counts_with_the_model_that_the_task_trains() -> None:
    scales = ("model.backbone=point-m2ae", "model.groups=[128, 64, 32]")
    heads = "sa3d.models.point_m2ae.heads"
    assert heads in roots("classify", *scales)
    assert heads not in roots("svm", *scales)
    assert "sa3d.models.point_m2ae.backbone" in roots("svm", *scales)
    assert not any("point_mae" in module for module in roots("classify", *scales))


def test_every_module_that_is_named_exists() -> None:
    tables = (registry.BACKBONES, registry.METHODS, registry.MASKS, registry.AUGMENTATIONS)
    named = [registry.place(entry) for table in tables for entry in table.values()]
    named += [registry.task(name).run for name in registry.TASKS]
    assert all(code._file(where.partition(":")[0]) for where in named)


def test_a_component_outside_the_package_counts(
    package: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "my_mask_of_test_code.py"
    file.write_text("import sa3d.one\ny = 1\n")
    assert set(code.code_of(["my_mask_of_test_code"])) == {"my_mask_of_test_code", "sa3d.one"}
    before = digest("my_mask_of_test_code")
    file.write_text("import sa3d.one\ny = 2\n")
    assert digest("my_mask_of_test_code") != before
    with pytest.raises(ConfigError, match="no module nothing_of_that_name, which the registry"):
        code.code_of(["nothing_of_that_name"])
