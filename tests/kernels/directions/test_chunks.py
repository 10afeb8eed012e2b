"""K-Means, chunks, deltas and cosine gains, against scikit-learn and plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import cluster
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from labtui_artifacts.errors import UsageError
from labtui_kernels.directions.chunks import DELTAS, chunks, deltas, permuted
from labtui_kernels.directions.gains import gains, label_means
from labtui_kernels.directions.kmeans import kmeans

LABELS = ("red", "green", "blue")
KMeans: Any = cluster.KMeans  # its stubs know n_init as text only


def blobs(seed: int, n: int = 40, width: int = 12, apart: float = 3.0, shift: float = 0.0) -> Tensor:
    """Two blobs of unequal size in one cloud, ``[n, width]`` float32."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, width, generator=generator)
    points[: n // 3] += apart * torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    return points + shift


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("apart", [0.5, 6.0])
def test_lloyd_is_scikit_learns_from_the_same_centres(k: int, apart: float) -> None:
    for seed in range(12):
        points = blobs(seed, apart=apart, shift=20.0)
        begin = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:k]]
        ours = kmeans(points[None], k, initial=begin[None])
        theirs = KMeans(k, init=begin.double().numpy(), n_init=1, tol=0, max_iter=1000).fit(
            points.double().numpy()
        )
        order = np.lexsort(
            (
                np.array([np.argmax(theirs.labels_ == c) for c in range(k)]),
                -np.bincount(theirs.labels_, minlength=k),
            )
        )
        np.testing.assert_allclose(ours.centres[0].numpy(), theirs.cluster_centers_[order], atol=1e-9)
        assert ours.sizes[0].tolist() == np.bincount(theirs.labels_, minlength=k)[order].tolist()
        assert np.array_equal(order[ours.members[0].numpy()], theirs.labels_)
        assert float(ours.inertia[0]) == pytest.approx(theirs.inertia_, rel=1e-9)


def test_seeding_finds_minima_as_low_as_scikit_learns() -> None:
    for seed in range(8):
        points = blobs(seed, apart=2.0)
        theirs = KMeans(2, n_init=8, random_state=seed).fit(points.double().numpy())
        ours = kmeans(points[None], 2, seed=seed)
        assert float(ours.inertia[0]) <= theirs.inertia_ * 1.02


def test_sets_are_clustered_alike_together_and_alone() -> None:
    sets = torch.stack([blobs(seed) for seed in range(5)])
    together = kmeans(sets, 2, seed=3, starts=16)
    for number in range(5):
        alone = kmeans(sets[number : number + 1], 2, seed=3, starts=16)
        assert float(together.inertia[number]) == pytest.approx(float(alone.inertia[0]), rel=0.02)
        again = kmeans(sets, 2, seed=3, starts=16)
        assert torch.equal(again.centres, together.centres)


def test_a_cluster_that_loses_its_points_takes_the_farthest() -> None:
    points = torch.tensor([[0.0], [0.1], [0.2], [9.0]])
    found = kmeans(points[None], 2, initial=torch.tensor([[[0.1], [100.0]]]))
    assert found.sizes[0].tolist() == [3, 1]
    assert found.centres[0].flatten().tolist() == pytest.approx([0.1, 9.0])


def test_equal_points_are_one_cluster_and_an_empty_one() -> None:
    found = kmeans(torch.ones(1, 4, 3), 2)
    assert found.sizes[0].tolist() == [4, 0]
    assert torch.allclose(found.centres, torch.ones(1, 2, 3).double())


def test_what_cannot_be_clustered_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        kmeans(torch.zeros(1, 1, 3), 2)
    with pytest.raises(UsageError, match="NaN"):
        kmeans(torch.full((1, 4, 3), torch.nan), 2)
    with pytest.raises(UsageError, match=r"'blue'.*1 images"):
        chunks(torch.randn(5, 3), [0, 0, 1, 1, 2], LABELS)


def embeddings(
    seed: int = 0, each: int = 15, width: int = 10, labels: int = 3, draw: int = 0
) -> tuple[Tensor, list[int]]:
    """Classes with a subpopulation in each, around a common centre; ``draw`` gives fresh points of the same."""
    generator = torch.Generator().manual_seed(seed)
    centre = 5 * torch.randn(width, generator=generator)
    poles = torch.randn(labels, width, generator=generator)
    aside = torch.randn(width, generator=generator)
    fresh = torch.Generator().manual_seed(seed * 1000 + draw)
    of = [label for label in range(labels) for _ in range(each)]
    sub = (torch.rand(len(of), 1, generator=fresh) < 0.3) * 3 * aside
    return centre + 2 * poles[of] + sub + 0.3 * torch.randn(len(of), width, generator=fresh), of


def test_chunks_are_scikit_learns_clusters_normalised() -> None:
    points, of = embeddings()
    found = chunks(points, of, LABELS, k=2)
    for label in range(len(LABELS)):
        mine = points[np.array(of) == label].double().numpy()
        theirs = KMeans(2, n_init=50, random_state=0).fit(mine)
        sizes = np.bincount(theirs.labels_)
        order = np.argsort(-sizes)
        assert sizes[order[0]] > sizes[order[1]], "the larger cluster must be known"
        centres = theirs.cluster_centers_[order]
        norms = np.linalg.norm(centres, axis=1)
        np.testing.assert_allclose(found.centroids[label].numpy(), centres / norms[:, None], atol=1e-6)
        np.testing.assert_allclose(found.norms[label].numpy(), norms, rtol=1e-6)
        assert found.sizes[label].tolist() == sizes[order].tolist()
        np.testing.assert_allclose(found.means[label].numpy(), mine.mean(0), rtol=1e-5, atol=1e-5)
        assert float(found.spread[label]) == pytest.approx((theirs.inertia_ / len(mine)) ** 0.5, rel=1e-5)
    assert torch.equal(found.representatives, found.centroids[:, 0])
    assert found.centroids.dtype == torch.float32


def test_permuted_chunks_are_the_same_pipeline_on_dealt_labels() -> None:
    points, of = embeddings(1)
    found = chunks(points, of, LABELS, permutations=3, seed=5)
    assert found.permuted.shape == (3, 3, 10)
    for number, deal in enumerate(permuted(torch.tensor(of), 3, 5)):
        assert torch.bincount(deal).tolist() == [15, 15, 15]
        assert deal.tolist() != of
        for label in range(3):
            mine = points[deal == label].double()
            np.testing.assert_allclose(found.permuted_means[number, label].numpy(), mine.mean(0), atol=1e-5)
            best = kmeans(mine[None], 2, seed=1, starts=64)
            direct = torch.nn.functional.normalize(best.centres[0], dim=-1)
            nearest = (direct @ found.permuted[number, label].double()).max()
            assert float(nearest) > 0.99, "it is a centroid of the dealt images"
    assert torch.equal(found.permuted, chunks(points, of, LABELS, permutations=3, seed=5).permuted)


def test_deltas_are_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    c, w = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    ink, word, target = torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([3, 0])
    by = {kind: deltas(kind, c, w, ink, word, target) for kind in DELTAS}
    for row, (i, s, t) in enumerate([(0, 2, 3), (1, 3, 0)]):
        torch.testing.assert_close(by["color"][row], c[t] - c[i])
        torch.testing.assert_close(by["text"][row], w[t] - w[s])
        torch.testing.assert_close(by["combined"][row], -c[i] - w[s] + c[t] + w[t])
    stacked = deltas("combined", c.expand(5, 4, 6), w.expand(5, 4, 6), ink, word, target)
    assert stacked.shape == (5, 2, 6)
    torch.testing.assert_close(stacked[4], by["combined"])
    with pytest.raises(UsageError, match="color, text, combined"):
        deltas("size", c, w, ink, word, target)  # type: ignore[arg-type]


def test_gains_are_cosines_after_minus_before() -> None:
    generator = torch.Generator().manual_seed(2)
    points, edits = torch.randn(7, 9, generator=generator), torch.randn(7, 9, generator=generator)
    references = torch.randn(4, 9, generator=generator)
    target = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    found = gains(points, edits, 1.7, references, target)
    steered = points.numpy() + 1.7 * edits.numpy() / np.linalg.norm(edits.numpy(), axis=1, keepdims=True)
    before = cosine_similarity(points.numpy(), references.numpy())
    after = cosine_similarity(steered, references.numpy())
    for m, t in enumerate(target.tolist()):
        rest = [label for label in range(4) if label != t]
        assert float(found.before[m]) == pytest.approx(before[m, t], abs=1e-6)
        assert float(found.after[m]) == pytest.approx(after[m, t], abs=1e-6)
        others = (after - before)[m, rest].mean()
        assert float(found.net[m]) == pytest.approx((after - before)[m, t] - others, abs=1e-6)
    many = gains(points, edits.expand(3, 7, 9), 1.7, references, target)
    torch.testing.assert_close(many.net[2], found.net)


def test_moving_toward_a_class_gains_and_chance_does_not() -> None:
    """The net gain sees true chunks, and those with permuted labels stay around nothing."""
    names = [f"label{number}" for number in range(6)]
    points, of = embeddings(3, each=20, width=24, labels=6)
    fresh, same = embeddings(3, each=20, width=24, labels=6, draw=1)
    made = chunks(points, of, names, permutations=40, seed=1)
    references = label_means(fresh, torch.tensor(same), 6)
    pairs = [(row, target) for row, own in enumerate(same) for target in range(6) if target != own]
    rows, target = torch.tensor(pairs).T
    own = torch.tensor(same)[rows]

    def score(c: Tensor) -> Tensor:
        edits = deltas("color", c, c, own, own, target)
        return gains(fresh[rows], edits, 2.0, references, target).net.mean(-1)

    true, chance = float(score(made.representatives)), score(made.permuted)
    assert chance.shape == (40,)
    assert true > 1.5 * float(chance.quantile(0.95))
    assert abs(float(chance.mean())) < true / 4


def test_label_means() -> None:
    points, of = embeddings(4)
    found = label_means(points, torch.tensor(of), 3)
    torch.testing.assert_close(found[1], points[15:30].double().mean(0))
