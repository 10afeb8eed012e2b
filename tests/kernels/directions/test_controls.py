"""Random and shuffled controls, signal to noise, cosines, algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from labtui_artifacts.errors import UsageError
from labtui_kernels.directions.compose import compose
from labtui_kernels.directions.estimate import estimate
from labtui_kernels.directions.nulls import random_directions, shuffled_directions
from labtui_kernels.directions.randoms import random_direction
from labtui_kernels.directions.stability import (
    cosine,
    cosine_table,
    shuffled_signal_to_noise,
    signal_to_noise,
)
from labtui_kernels.lang.sites import Site, parse_site


def pairs(seed: int, n: int = 20, width: int = 32, gap: float = 4.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(width, generator=generator)
    noise = torch.randn(2, n, width, generator=generator)
    return noise[0] + gap / 2 * truth / truth.norm(), noise[1] - gap / 2 * truth / truth.norm()


def test_random_direction_is_pinned() -> None:
    """These numbers must never change: recorded controls are drawn again from their seed."""
    found = random_direction(7, 5)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(
        [0.0338884853, 0.0467276163, 0.5626075864, -0.7842944264, 0.2549962103], abs=1e-7
    )
    assert random_direction(7, 5, norm=3.0).norm().item() == pytest.approx(3, rel=1e-6)
    assert not torch.equal(random_direction(7, 5), random_direction(8, 5))
    assert not torch.equal(random_direction(7, 5), random_direction(7, 5, stream="llm.3.out"))
    assert torch.equal(
        random_direction(7, 5, stream=Site("llm", 3, "out")), random_direction(7, 5, stream="llm.3.out")
    )


def test_random_directions_are_spread_like_normals() -> None:
    width, count = 63, 400
    drawn = torch.stack([random_direction(seed, width) for seed in range(count)]).double()
    values = (drawn * math.sqrt(width)).numpy()
    assert abs(values.mean()) < 0.02
    assert values.std() == pytest.approx(1, abs=0.02)
    # Kurtosis of the coordinates of a random unit vector: 3 d / (d + 2).
    assert np.mean(values**4) / np.mean(values**2) ** 2 == pytest.approx(3 * width / (width + 2), abs=0.12)
    cosines = (drawn @ drawn.T)[~torch.eye(count, dtype=torch.bool)]
    assert cosines.abs().max() < 0.75
    assert cosines.std().item() == pytest.approx(1 / math.sqrt(width), rel=0.05)


def test_random_null_has_the_asked_norms_and_independent_sites() -> None:
    found = random_directions({"a": 16, "b": 24, "c": 16}, 20, seed=3, norms={"a": 2.0, "b": 5.0, "c": 2.0})
    assert found["a"].shape == (20, 16) and found["b"].shape == (20, 24)
    assert torch.allclose(found["a"].norm(dim=1), torch.full((20,), 2.0), rtol=1e-5)
    assert torch.allclose(found["b"].norm(dim=1), torch.full((20,), 5.0), rtol=1e-5)
    assert not torch.equal(found["a"], found["c"])
    assert len({tuple(row.tolist()) for row in found["a"]}) == 20


def test_shuffled_mean_difference_is_a_signed_mean_of_the_pairs() -> None:
    p, n = pairs(1, n=6)
    found = shuffled_directions("mean-difference", {"a": p}, {"a": n}, 30, seed=2)["a"].double()
    differences = (p - n).double()
    # Recover the signs: half of the pairs, exactly, must have been exchanged.
    signs = torch.linalg.lstsq(differences.T, 6 * found.T).solution.T
    assert torch.allclose(signs.abs(), torch.ones_like(signs), atol=1e-4)
    assert ((signs < 0).sum(1) == 3).all()
    assert len({tuple(row.round().tolist()) for row in signs}) > 5


@pytest.mark.parametrize("method", ["mean-difference", "pca", "logistic"])
def test_shuffled_directions_lose_the_contrast(method: str) -> None:
    p, n = pairs(3, n=40)
    real = estimate(method, p, n)
    norms = {"a": real.norm}
    found = shuffled_directions(method, {"a": p}, {"a": n}, 20, seed=0, norms=norms)["a"]
    assert found.shape == (20, 32)
    assert torch.allclose(found.norm(dim=1), torch.full((20,), real.norm), rtol=1e-4)
    assert max(abs(cosine(vector, real.vector)) for vector in found) < 0.75


def test_shuffled_null_needs_pairs_and_a_method_that_pools_them() -> None:
    p, n = pairs(4, n=1)
    with pytest.raises(UsageError, match="at least two pairs"):
        shuffled_directions("mean-difference", {"a": p}, {"a": n}, 2)
    with pytest.raises(UsageError, match="no shuffled control"):
        shuffled_directions("random", {"a": p}, {"a": n}, 2)


def test_signal_to_noise_is_the_stated_formula() -> None:
    p, n = pairs(5, n=10)
    between = (p.mean(0) - n.mean(0)).norm().item()
    distances = [float((x - pole.mean(0)).square().sum()) for pole in (p, n) for x in pole]
    expected = between / math.sqrt(sum(distances) / (2 * 9))
    found = signal_to_noise({"a": p, "b": 2 * p}, {"a": n, "b": 2 * n})
    assert found["a"] == pytest.approx(expected, rel=1e-6)
    assert found["b"] == pytest.approx(expected, rel=1e-6)
    assert math.isnan(signal_to_noise({"a": p[:1]}, {"a": n[:1]})["a"])


def test_cosine_table_has_a_place_for_every_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 16, generator=generator)
    table = cosine_table({"a": {1: a, 2: a}, "minus a": {1: -3 * a}, "b": {1: b}, "zero": {1: 0 * a}}, [1, 2])
    assert table[1][:2, :2].tolist() == [
        [pytest.approx(1), pytest.approx(-1)],
        [pytest.approx(-1), pytest.approx(1)],
    ]
    assert table[1][0, 2].item() == pytest.approx(float(torch.cosine_similarity(a, b, dim=0)), abs=1e-6)
    assert torch.isnan(table[1][3]).all()
    assert table[2][0, 0].item() == pytest.approx(1) and math.isnan(table[2][0, 1].item())


SITE = parse_site("llm.3")
STORED = {("terse", SITE): torch.arange(4.0), ("formal", SITE): torch.ones(4), ("wide", SITE): torch.ones(6)}
STORED["terse", parse_site("llm.1")] = torch.full((4,), 9.0)


SHUFFLED = {("terse", 3): torch.tensor([0.0, 2.0, 0.0, 0.0]), ("formal", 3): torch.tensor([1.0, 0, 0, 1])}


def lookup(name: str, site: Site, shuffled: int | None = None, /) -> Tensor:
    if shuffled is not None:
        return SHUFFLED[name, shuffled]
    if (name, site) not in STORED:
        raise UsageError(f"no direction {name} at {site}")
    return STORED[name, site]


def test_algebra_is_a_weighted_sum() -> None:
    found = compose("0.5*terse - 2*formal", SITE, 4, lookup)
    assert found.dtype == torch.float32
    assert torch.allclose(found, 0.5 * torch.arange(4.0) - 2)
    assert torch.allclose(
        compose("-(terse - formal) + terse[llm.1]", SITE, 4, lookup), 10 - torch.arange(4.0)
    )


def test_algebra_draws_random_directions_by_seed_and_site() -> None:
    unit = compose("random:7", SITE, 4, lookup)
    assert torch.equal(unit, random_direction(7, 4, stream=SITE))
    like = compose("3*random:7~terse", SITE, 4, lookup)
    norm = torch.arange(4.0).norm()
    assert torch.allclose(like, 3 * norm * unit, atol=1e-5)
    assert not torch.equal(unit, compose("random:7", parse_site("llm.1"), 4, lookup))


def test_a_shuffled_direction_has_the_norm_of_the_real_one_and_sums_as_it_does() -> None:
    alone = compose("2*shuffled:3~terse", SITE, 4, lookup)
    assert torch.allclose(alone, 2 * torch.arange(4.0).norm() * torch.tensor([0.0, 1.0, 0.0, 0.0]))
    mixed = compose("shuffled:3~(0.5*terse - 2*formal)", SITE, 4, lookup)
    real = compose("0.5*terse - 2*formal", SITE, 4, lookup)
    null = 0.5 * SHUFFLED["terse", 3] - 2 * SHUFFLED["formal", 3]
    assert torch.allclose(mixed, null * real.norm() / null.norm())


def test_algebra_refuses_what_is_missing_or_of_another_width() -> None:
    with pytest.raises(UsageError, match="no direction dry"):
        compose("terse + dry", SITE, 4, lookup)
    with pytest.raises(UsageError, match=r"width 6 at llm\.3, but llm\.3 has width 4"):
        compose("wide", SITE, 4, lookup)


def test_poles_that_do_not_differ_are_as_far_apart_as_chance_puts_them() -> None:
    """About sqrt(2 / pairs) of the spread, whatever the width; a contrast stands out, and does not raise it."""
    draw = torch.Generator().manual_seed(3)
    p, n = torch.randn(50, 300, generator=draw), torch.randn(50, 300, generator=draw)
    chance = shuffled_signal_to_noise({0: p}, {0: n})[0]
    assert chance == pytest.approx(math.sqrt(2 / 50), rel=0.1)
    assert signal_to_noise({0: p}, {0: n})[0] == pytest.approx(chance, rel=0.15)
    far = p + 10.0
    assert shuffled_signal_to_noise({0: far}, {0: n})[0] == pytest.approx(chance, rel=0.1)
    assert signal_to_noise({0: far}, {0: n})[0] > 10 * chance
