"""Every block of code on the site: its language, and that what it says to type exists."""

from __future__ import annotations

import re
import subprocess

import pytest

from docsite.links import ROOT
from tests.docs.pages import RUN, SHELL, Block, blocks, commands, excuses, reasons
from tests.docs.parsing import UnknownCommandError, check

BLOCKS = blocks()
SHELLS = [block for block in BLOCKS if block.language == SHELL]
LANGUAGES = {*RUN, "ini", "text", "yaml"}
# names that a page adds to params.yaml: by `--name`, or by a block of YAML
MADE = re.compile(r"--name (\w+)|^  (\w+):$", re.MULTILINE)
# teaches to write components that are not there
TAUGHT = "docs/extending.md"


def made_on(page: str) -> frozenset[str]:
    text = "".join(b.text for b in BLOCKS if b.page == page and b.language in (SHELL, "yaml"))
    return frozenset(name for pair in MADE.findall(text) for name in pair if name)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_its_language(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", SHELLS, ids=str)
def test_what_is_to_be_typed_exists(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    found = commands(block.text)
    assert found
    for words in found if block.page != TAUGHT else ():
        check(words, made_on(block.page))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "console"], ids=str)
def test_what_is_typed_in_a_transcript_exists(block: Block) -> None:
    typed = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    assert typed
    for line in typed:
        for words in commands(line):
            check(words, made_on(block.page))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_python_compiles(block: Block) -> None:
    text = block.text
    if re.match(r'"[\w-]+": ', text):  # a line of a table of the registry
        text = "{" + text + "}"
    compile(text, str(block), "exec")


def test_a_reason_stands_for_a_block_that_is_there() -> None:
    for each in excuses():
        assert any(each.covers(block) for block in BLOCKS if block.language in RUN), each
        assert each.why in reasons(), each
        if each.why == "elsewhere":
            assert (ROOT / each.test).is_file(), each
    assert len(set(excuses())) == len(excuses())
    assert {each.why for each in excuses()} == set(reasons())


@pytest.mark.parametrize(
    "line",
    [
        "sa3d pretrian -e demo",
        "sa3d pretrain -e demo --seeds 0",
        "sa3d pretrain -e demo --set pretrain.mask_ration=0.5",
        "sa3d pretrain -e dmo",
        "sa3d svm --seed -1",
        "python -m flows.experimnt demo",
        "python -m flows.experiment demo --mask-ration 0.5",
        "python -m sa3d data lst",
        "python benchmarks/retrieval.py --dta kicad",
        "make demonstration",
        "dvc repro experiment@dmo",
        "dvc exp run -S experiments.demo.pretrain.mask_rato=0.5 experiment@demo",
        "torchrun --nproc-per-node 4 -m sa3d pretrian",
        "mlflow db upgrad sqlite:///mlflow.db",
        "prefect wroker start",
        "pip install -r requirements-none.txt",
        "sa4d pretrain",
    ],
)
def test_a_mistake_is_found(line: str) -> None:
    (words,) = commands(line)
    with pytest.raises(UnknownCommandError):
        check(words, frozenset())


def test_a_line_is_taken_apart() -> None:
    text = "A=1 (cd x && make y) | tee 'a b' > out # said\nfor_ever \\\n  -q; set -a"
    said = ["cd x", "make y", "tee a b", "for_ever -q", "set -a"]
    assert [" ".join(words) for words in commands(text)] == said
