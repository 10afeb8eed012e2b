"""The registry: strict names, near misses, metrics of other packages, and faults that stay where they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from labtui_kernels.metrics.base import Facts
from labtui_kernels.metrics.names import check_metrics
from labtui_kernels.metrics.registry import BUILT_IN, built_in, described, metric, plugins, value

PLUGIN = """
from labtui_kernels.metrics.base import Facts, Metric, Result

print("imported")

class Politeness(Metric):
    head = "politeness"
    about = "how often a word is said"
    takes = "WORD"
    example = "politeness:please"
    judged = True

    def value(self, row: Facts) -> Result:
        return row.text.lower().count(self.argument), ""

class Faulty(Metric):
    head = "faulty"
    about = "fails"

    def value(self, row: Facts) -> Result:
        if row.text == "nan":
            return float("nan"), ""
        if row.text == "text":
            return "zero", ""
        return 1 // 0, ""

class Misnamed(Metric):
    head = "other"

NOT_A_METRIC = 3
"""
POINTS = """[labtui.metrics]
politeness = polite_metrics:Politeness
faulty = polite_metrics:Faulty
misnamed = polite_metrics:Misnamed
no-metric = polite_metrics:NOT_A_METRIC
no-module = polite_absent:Thing
no-object = polite_metrics:Absent
words = polite_metrics:Faulty
Bad Name = polite_metrics:Faulty
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another package as pip installs it: a module and its metadata."""
    (tmp_path / "polite_metrics.py").write_text(PLUGIN)
    info = tmp_path / "polite_metrics-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: polite-metrics\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "polite_metrics", raising=False)
    return tmp_path


def test_names() -> None:
    examples = list(described())
    check_metrics(examples, "metrics")
    assert len(examples) == len(BUILT_IN) and all(described().values())
    assert {"words", "distinct-2", "lens:hype", "margin:maths", "choice:yes|no"} <= set(examples)
    assert all(built_in(head).head == head for head in BUILT_IN)
    assert [head for head in BUILT_IN if built_in(head).judged] == ["kl-mean", "coherent"]
    for name in examples:
        assert metric(name).name == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("perplexty", "did you mean 'perplexity'"),
        ("lense:hype", "did you mean 'lens"),
        ("words:3", "takes nothing after it"),
        ("words:", "expected words"),
        ("perturbation:", "expected perturbation or perturbation:SITE"),
        ("distinct", "expected distinct-N"),
        ("", "unknown metric"),
        ("w" * 300, "at most 200"),
        ("cosine:terse", "expected cosine:DIRECTION@SITE"),
        ("cosine:terse@llm", "expected llm.BLOCK"),
        ("cosine:terse@llm.2-4", "expected one site"),
        ("cosine:2*@llm.2", "direction"),
        ("probe:p@llm.2=", "expected a label"),
        ("perturbation:llm.x", "perturbation:llm.x"),
        ("margin:math", "did you mean 'maths'"),
        ("classifier:tersse", "did you mean 'terse'"),
    ],
)
def test_what_is_no_metric_is_one_line(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        check_metrics([name], "spec sweep: metrics")
    assert str(refused.value).startswith("spec sweep: metrics: ") and "\n" not in str(refused.value)


def test_specs_take_them_and_check_them() -> None:
    plain = {
        "kind": "generate",
        "prompt": "Hi",
        "metrics": ["lens:hype", "cosine:-terse@llm.2", "distinct-3"],
    }
    assert specs.load(plain).metrics == plain["metrics"]  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="spec generate: metrics: metric 'lens:hyp': no lens 'hyp'"):
        specs.load(plain | {"metrics": ["lens:hyp"]})
    with pytest.raises(UsageError, match="'lens:hype' is named twice"):
        specs.load(plain | {"metrics": ["lens:hype", "lens:hype"]})


def test_a_metric_of_another_package(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heads = [point.name for point in plugins()]
    assert heads == ["politeness", "faulty", "misnamed", "no-metric", "no-module", "no-object"]
    assert metric("words").value(Facts("a b")) == (2, "")  # a name of the lab's own stays the lab's
    assert capsys.readouterr().out == ""  # nothing is imported for a listing, or for another metric
    found = metric("politeness:please")
    assert capsys.readouterr().out == "imported\n"
    assert value(found, Facts("Please, please.")) == (2, "")
    assert found.judged
    with pytest.raises(UsageError, match="expected politeness:WORD, such as politeness:please"):
        metric("politeness")
    with pytest.raises(UsageError, match="did you mean 'politeness'"):
        metric("politenes")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no-module", "ModuleNotFoundError: No module named 'polite_absent'"),
        ("no-object", "AttributeError"),
        ("no-metric", "is no subclass"),
        ("misnamed", "its head is 'other'"),
    ],
)
def test_a_broken_plug_in_is_one_line_and_breaks_nothing_else(package: Path, name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        metric(name)
    said = str(refused.value)
    assert said.startswith(f"metric '{name}' of the package 'polite-metrics' cannot be loaded")
    assert "\n" not in said
    check_metrics(["words", "politeness:please"], "metrics")


def test_what_a_metric_raises_is_a_reason(package: Path) -> None:
    found = metric("faulty")
    assert value(found, Facts("")) == (
        None,
        "the metric failed (ZeroDivisionError: integer division or modulo by zero)",
    )
    assert value(found, Facts("nan")) == (None, "not a finite number")
    assert value(found, Facts("text")) == (None, "the metric gave str, not a number")


def test_metrics_are_checked_without_torch_and_the_usual_ones_without_numpy() -> None:
    code = (
        "import sys\n"
        "from labtui_kernels.metrics.names import check_metrics\n"
        "check_metrics(['words', 'perplexity', 'distinct-2', 'kl', 'coherent', 'questions'], 'metrics')\n"
        "print('numpy' in sys.modules)\n"
        "check_metrics(['classifier:dry', 'lens:hype', 'margin:maths', 'cosine:a@llm.2', 'kl'], 'metrics')\n"
        "print([name for name in ('torch', 'transformers', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "[]"]
