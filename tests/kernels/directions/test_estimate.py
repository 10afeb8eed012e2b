"""Estimators against independent references: plain formulas and scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from labtui_artifacts.errors import UsageError
from labtui_kernels.directions.estimate import Estimate, estimate, estimate_all
from labtui_kernels.directions.logistic import logistic_normals, newton


def poles(seed: int, pairs: int = 12, width: int = 40, gap: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Paired activations (a topic for each pair, a common contrast, noise), and the true contrast."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(width, generator=generator)
    truth /= truth.norm()
    topics = 5 * torch.randn(pairs, width, generator=generator)
    noise = 0.3 * torch.randn(2, pairs, width, generator=generator)
    return topics + gap / 2 * truth + noise[0], topics - gap / 2 * truth + noise[1], truth


def cosine(a: Tensor, b: Tensor | np.ndarray) -> float:
    second = torch.as_tensor(b).double()
    return float(a.double() @ second / a.double().norm() / second.norm())


def test_mean_difference_is_the_difference_of_means() -> None:
    p, n, _ = poles(0)
    found = estimate("mean-difference", p, n)
    assert torch.allclose(found.vector, p.mean(0) - n.mean(0), atol=1e-6)
    assert found.norm == pytest.approx(float((p.mean(0) - n.mean(0)).norm()), rel=1e-5)
    assert found.gap == pytest.approx(found.norm, rel=1e-6)
    assert found.pairs == 12


def test_pair_is_the_raw_difference_of_its_one_pair() -> None:
    p, n, _ = poles(1, pairs=1)
    found = estimate("pair", p, n)
    assert torch.allclose(found.vector, p[0] - n[0], atol=1e-6)
    assert found.explained == pytest.approx(1.0)
    assert found.split_half is None and found.accuracy is None
    with pytest.raises(UsageError, match="one pair"):
        estimate("pair", *poles(1, pairs=2)[:2])


@pytest.mark.parametrize(("pairs", "width"), [(12, 40), (60, 20), (2, 8)])
def test_pca_equals_scikit_learn_on_midpoint_centred_pairs(pairs: int, width: int) -> None:
    p, n, _ = poles(2, pairs, width)
    middle = (p + n) / 2
    reference: Any = PCA(n_components=1, svd_solver="full").fit(
        torch.cat([p - middle, n - middle]).double().numpy()
    )
    found = estimate("pca", p, n)
    assert abs(cosine(found.vector, reference.components_[0])) == pytest.approx(1, abs=1e-6)
    assert found.explained == pytest.approx(float(reference.explained_variance_ratio_[0]), abs=1e-6)
    assert found.norm == pytest.approx(1, abs=1e-5)
    assert float(((p - n) @ found.vector).mean()) > 0
    assert found.gap == pytest.approx(float(((p - n) @ found.vector).mean()), rel=1e-4)


def test_pca_points_to_the_positive_pole() -> None:
    p, n, _ = poles(3)
    forward, backward = estimate("pca", p, n), estimate("pca", n, p)
    assert cosine(forward.vector, backward.vector) == pytest.approx(-1, abs=1e-5)
    assert forward.gap > 0 and backward.gap > 0


def test_pca_keeps_the_signal_that_centring_on_the_mean_difference_would_remove() -> None:
    p, n, truth = poles(4, pairs=30)
    assert cosine(estimate("pca", p, n).vector, truth) > 0.98
    differences = (p - n).double()
    centred: Any = PCA(n_components=1).fit((differences - differences.mean(0)).numpy())
    removed = centred.components_[0]
    assert abs(cosine(truth, removed)) < 0.8


@pytest.mark.parametrize(("pairs", "width"), [(12, 40), (40, 12), (5, 5)])
@pytest.mark.parametrize("c", [0.1, 1.0, 30.0])
def test_newton_finds_scikit_learns_minimum(pairs: int, width: int, c: float) -> None:
    p, n, _ = poles(5, pairs, width, gap=1.0)
    points = torch.cat([p, n]).double()
    labels = torch.cat([torch.ones(pairs), -torch.ones(pairs)]).double()
    reference = LogisticRegression(C=c, tol=1e-10, max_iter=20_000).fit(points.numpy(), labels.numpy())
    weights, intercept = newton(points[None], labels[None], c)
    assert np.allclose(weights[0].numpy(), reference.coef_[0], rtol=1e-3, atol=1e-4)
    assert float(intercept[0]) == pytest.approx(float(reference.intercept_[0]), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("pairs", "width"), [(12, 40), (40, 12)])
def test_logistic_normal_equals_scikit_learns_on_the_scaled_points(pairs: int, width: int) -> None:
    p, n, _ = poles(6, pairs, width)
    points = torch.cat([p, n]).double()
    points -= points.mean(0)
    points /= points.square().mean().sqrt()
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=20_000).fit(
        points.numpy(), [1] * pairs + [0] * pairs
    )
    found = estimate("logistic", p, n)
    assert cosine(found.vector, reference.coef_[0]) == pytest.approx(1, abs=1e-5)
    assert found.norm == pytest.approx(1, abs=1e-5)
    assert found.gap == pytest.approx(float((p.mean(0) - n.mean(0)) @ found.vector), rel=1e-4)


def test_logistic_does_not_depend_on_scale_or_offset() -> None:
    p, n, _ = poles(7)
    one = logistic_normals(p[None].double(), n[None].double())
    other = logistic_normals(1000 * p[None].double() + 50, 1000 * n[None].double() + 50)
    assert cosine(one[0], other[0]) == pytest.approx(1, abs=1e-8)


def test_all_sites_at_once_equal_each_alone_also_at_mixed_widths() -> None:
    sites = {f"llm.{i}": poles(10 + i, width=40) for i in range(4)} | {"vision.1": poles(20, width=24)}
    positive, negative = ({site: found[k] for site, found in sites.items()} for k in (0, 1))
    for method in ("mean-difference", "pca", "logistic"):
        together = estimate_all(method, positive, negative, seed=3)
        assert list(together) == list(sites)
        for site in sites:
            alone = estimate(method, positive[site], negative[site], seed=3)
            assert torch.allclose(together[site].vector, alone.vector, atol=1e-5), (method, site)
            assert together[site].split_half == pytest.approx(alone.split_half, abs=1e-5)
            assert together[site].accuracy == pytest.approx(alone.accuracy, abs=1e-9)


def test_split_half_and_accuracy_tell_signal_from_noise() -> None:
    strong = estimate("mean-difference", *poles(30, pairs=24, gap=6)[:2])
    p, n, _ = poles(31, pairs=24, gap=0)
    noise = estimate("mean-difference", p, n)
    assert strong.split_half is not None and noise.split_half is not None
    assert strong.split_half > 0.9 > 0.5 > abs(noise.split_half)
    assert strong.accuracy is not None and noise.accuracy is not None
    assert strong.accuracy > noise.accuracy
    assert noise.accuracy == pytest.approx(0.5, abs=0.2)


def test_split_half_matches_the_plain_formula() -> None:
    p, n, _ = poles(32, pairs=9)
    generator = torch.Generator().manual_seed(5)
    expected = []
    for _ in range(8):
        order = torch.randperm(9, generator=generator)
        halves = [(p[half] - n[half]).mean(0) for half in (order[:4], order[4:])]
        expected.append(cosine(halves[0], halves[1]))
    assert estimate("mean-difference", p, n, seed=5).split_half == pytest.approx(np.mean(expected), abs=1e-5)


def test_random_has_the_norm_of_the_difference_and_belongs_to_its_site() -> None:
    p, n, _ = poles(33)
    norm = float((p - n).mean(0).norm())
    both = estimate_all("random", {"a": p, "b": p}, {"a": n, "b": n}, seed=1)
    alone = estimate_all("random", {"b": p}, {"b": n}, seed=1)
    assert both["a"].norm == pytest.approx(norm, rel=1e-5)
    assert torch.equal(both["b"].vector, alone["b"].vector)
    assert abs(cosine(both["a"].vector, both["b"].vector)) < 0.6
    assert both["a"].split_half is None
    assert not torch.equal(both["a"].vector, estimate_all("random", {"a": p}, {"a": n}, seed=2)["a"].vector)


def test_estimates_repeat_exactly() -> None:
    p, n, _ = poles(34)
    for method in ("mean-difference", "pca", "logistic", "random"):
        one, two = (estimate(method, p, n, seed=1) for _ in range(2))
        assert torch.equal(one.vector, two.vector)
        assert (one.split_half, one.accuracy, one.gap) == (two.split_half, two.accuracy, two.gap)


def refused(method: str, positive: dict[str, Tensor], negative: dict[str, Tensor]) -> str:
    with pytest.raises(UsageError) as caught:
        found: dict[str, Estimate] = estimate_all(method, positive, negative)
        assert found is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals_are_one_line_each() -> None:
    p, n, _ = poles(35)
    assert "expected one of pair" in refused("median", {"a": p}, {"a": n})
    assert "paired row by row" in refused("pca", {"a": p}, {"a": n[:-1]})
    assert "same sites" in refused("pca", {"a": p}, {"b": n})
    assert "at least one" in refused("pca", {}, {})
    assert "same activations at a" in refused("mean-difference", {"a": p}, {"a": p})
    assert "same activations at a" in refused("logistic", {"a": p}, {"a": p})
    broken = p.clone()
    broken[3, 4] = math.nan
    assert "not finite" in refused("pca", {"b": n, "a": broken}, {"b": p, "a": n})
