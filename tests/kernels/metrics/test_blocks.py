"""Fenced code and LaTeX: present, sound, or cut by the limit."""

from __future__ import annotations

import pytest

from labtui_kernels.metrics.base import Facts
from labtui_kernels.metrics.blocks import LONGEST_CODE, fences, formulas
from labtui_kernels.metrics.registry import metric, value

PYTHON = "Here:\n```python\ndef f(x):\n    return x + 1\n```\nDone."


def judge(text: str, cut: bool = False) -> dict[str, object]:
    names = ("fence", "fence-valid", "latex", "latex-valid", "latex-first")
    return {name: value(metric(name), Facts(text, cut=cut))[0] for name in names}


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (PYTHON, True),
        ("```python\ndef f(x:\n    return\n```", False),
        ("```python\n>>> 1 + 1\n2\n>>> for i in x:\n...     print(i)\n```", True),
        ('```json\n{"a": [1, 2]}\n```', True),
        ("```json\n{'a': 1}\n```", False),
        ("```toml\na = 1\n```", True),
        ("```cobol\nwhatever (\n```", True),
        ("```\n\n```", False),
        ("~~~~\ncode\n~~~\nmore\n~~~~", True),
        ("````md\n```python\ndef broken(\n```\n````", True),
        (f"{PYTHON}\n```python\nx = = 1\n```", False),
        ("```python\nx = '\\0'\n```\n```c\nint x;\n```", True),
        ("```python\n" + "(" * 5000 + "\n```", False),
    ],
)
def test_fenced_code(text: str, valid: bool) -> None:
    found = judge(text)
    assert found["fence"] is True and found["fence-valid"] is valid
    assert judge(text, cut=True)["fence-valid"] is valid  # closed blocks are judged, cut or not


def test_a_fence_that_the_limit_cut_is_undetermined() -> None:
    text = "```python\ndef f(x):"
    assert judge(text, cut=False)["fence-valid"] is False  # it ended so by itself
    assert judge(text, cut=True) | {"latex-first": None} == {
        "fence": True,
        "fence-valid": None,
        "latex": False,
        "latex-valid": None,
        "latex-first": None,
    }
    found, reason = value(metric("fence-valid"), Facts(text, cut=True))
    assert found is None and reason == "the limit cut the fenced code, so it is undetermined"
    assert judge("```json\n{\n```\n" + text, cut=True)["fence-valid"] is False


def test_without_a_block_validity_is_absent() -> None:
    assert value(metric("fence-valid"), Facts("Just `inline` words.")) == (None, "there is no fenced code")
    assert value(metric("latex-valid"), Facts("It costs $5.")) == (None, "there is no LaTeX block")
    assert judge("Just ``` in a line, and a `tick`.")["fence"] is False
    long = "```python\n" + "x = 1\n" * LONGEST_CODE + "```"
    assert judge(long)["fence"] is True and judge(long)["fence-valid"] is None


def test_what_is_in_a_block() -> None:
    blocks, outside = fences(PYTHON)
    assert [(b.language, b.body, b.closed) for b in blocks] == [
        ("python", "def f(x):\n    return x + 1", True)
    ]
    assert outside == "Here:\nDone."
    assert [b.body for b in formulas("$$a$$ and \\[b\\] and \\begin{align*}c\\end{align*}")] == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("$$x^2 + 1$$", True),
        ("So \\[ \\frac{1}{2} \\] holds.", True),
        ("\\begin{equation} \\left( x \\right) \\end{equation}", True),
        ("$$\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}$$", True),
        ("$$ \\{ 1, 2 \\} $$", True),
        ("$$\\frac{1}{2$$", False),
        ("$$ } { $$", False),
        ("$$\\left( x$$", False),
        ("$$\\begin{matrix} 1 \\end{pmatrix}$$", False),
        ("$$  $$", False),
        ("$$a$$ then $$\\sqrt{$$", False),
        ("$$ \\leftarrow x $$", True),
    ],
)
def test_latex(text: str, valid: bool) -> None:
    found = judge(text)
    assert found["latex"] is True and found["latex-valid"] is valid


def test_latex_that_is_cut_and_latex_in_code() -> None:
    assert judge("Then $$x + ", cut=True)["latex-valid"] is None
    assert judge("Then $$x + ", cut=False)["latex-valid"] is False
    assert judge("```\n$$x$$\n```")["latex"] is False


def test_latex_first() -> None:
    assert judge("  \n$$x$$")["latex-first"] is True
    assert judge("The answer: $$x$$")["latex-first"] is False
    assert judge("$x$ is")["latex-first"] is False
    assert judge("")["latex-first"] is None
    assert judge("$", cut=True)["latex-first"] is None and judge("$")["latex-first"] is False
