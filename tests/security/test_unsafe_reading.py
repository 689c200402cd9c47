"""No file from elsewhere is run as a program: neither weights, nor arrays, nor settings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sa3d", "flows", "docker", "extensions")
# What reads pickles, or YAML with tags that make objects.
RUNS_WHAT_IT_READS = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "dill.load",
    "cloudpickle.load",
    "joblib.load",
    "pandas.read_pickle",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "shelve.open",
    "marshal.load",
    "marshal.loads",
    "eval",
    "exec",
}


def problems(source: str) -> list[str]:
    """Calls in a source text that run what they read."""
    return [f"line {call.lineno}: {why}" for call, why in _calls(ast.parse(source)) if why]


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    imported = [  # whether each is safe, and the name that it has here
        (alias.name in ("SafeLoader", "CSafeLoader"), alias.asname or alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "yaml"
        for alias in node.names
    ]
    safe_loaders = {"yaml.SafeLoader", "yaml.CSafeLoader", *(n for safe, n in imported if safe)}
    safe_loaders -= {name for safe, name in imported if not safe}
    safe_loaders |= {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and {ast.unparse(base) for base in node.bases} <= safe_loaders
    }
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        options = {each.arg: ast.unparse(each.value) for each in call.keywords}
        why = ""
        if name in RUNS_WHAT_IT_READS:
            why = name
        elif name == "torch.load" and options.get("weights_only") != "True":
            why = "torch.load without weights_only=True"
        elif name == "yaml.load":
            loader = options.get("Loader") or (
                ast.unparse(call.args[1]) if len(call.args) > 1 else ""
            )
            why = "" if loader in safe_loaders else f"yaml.load with {loader or 'no loader'}"
        elif options.get("allow_pickle", "False") != "False":
            why = f"{name} with allow_pickle={options['allow_pickle']}"
        elif options.get("trust_remote_code", "False") != "False":
            why = f"{name} with trust_remote_code"
        elif options.get("shell", "False") != "False":
            why = f"{name} through a shell"
        yield call, why


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_runs_what_it_reads(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = {
        str(path.relative_to(ROOT)): why
        for path in files
        if "build" not in path.parts and (why := problems(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("torch.load(path, weights_only=True)", 0),
        ("torch.load(path)", 1),
        ("torch.load(path, weights_only=False)", 1),
        ("torch.load(path, weights_only=flag)", 1),
        ("pickle.load(file)", 1),
        ("pickle.dumps(x)", 0),
        ("yaml.safe_load(text)", 0),
        ("yaml.load(text)", 1),
        ("yaml.load(text, yaml.Loader)", 1),
        ("class L(yaml.SafeLoader): ...\nyaml.load(text, Loader=L)", 0),
        ("class L(yaml.Loader): ...\nyaml.load(text, L)", 1),
        ("from yaml import CSafeLoader as S\nclass L(S): ...\nyaml.load(text, L)", 0),
        ("from yaml import Loader as S\nclass L(S): ...\nyaml.load(text, L)", 1),
        ("np.load(path, allow_pickle=True)", 1),
        ("np.load(path, allow_pickle=False)", 0),
        ("np.load(path)", 0),
        ("subprocess.run(words, shell=True)", 1),
        ("eval(text)", 1),
    ],
)
def test_the_check_sees_what_it_looks_for(source: str, count: int) -> None:
    assert len(problems(source)) == count


def test_checkpoints_of_mlflow_models_are_no_pickles(tmp_path: Path) -> None:
    """MLflow is asked for no flavour that would write one."""
    text = "\n".join(path.read_text() for path in (ROOT / "sa3d" / "tracking").glob("*.py"))
    assert "mlflow.pyfunc.save_model" in text
    for flavour in ("pytorch", "sklearn", "transformers"):
        assert f"mlflow.{flavour}.save_model" not in text
        assert f"mlflow.{flavour}.log_model" not in text
    assert "python_model=" not in text, "a Python object is pickled; loader_module is not"
