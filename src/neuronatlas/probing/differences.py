"""Rankings by differences of class means: Probeless, and each class against the rest.

>>> rows = Labelled.of(np.array([[0.0, 1.0], [0.0, 3.0], [1.0, 2.0]]), ["a", "a", "b"], progress=False)
>>> probeless(rows).order.tolist(), probeless(rows).scores.tolist()
([0, 1], [1.0, 0.0])
"""

from __future__ import annotations

import numpy as np

from neuronatlas.probing.labelled_rows import ByClass, ClassMoments, Labelled, Outcome, by_falling, class_moments

__all__ = ["mean_difference", "probeless"]


def probeless(rows: Labelled, *, standardise: bool = False) -> Outcome:
    """Rank by the sum over pairs of classes of |difference of the class means| (Antverg and Belinkov 2022, section 3).

    The scores are in units of the activations, so that neurons of a large scale come first, as in the paper;
    `standardise` divides each neuron by its standard deviation. For a class alone: the sum over the other classes.
    """
    moments = class_moments(rows)
    means = moments.means / _deviations(moments) if standardise else moments.means
    by_class = np.stack([np.abs(means - mean).sum(axis=0) for mean in means])
    # In the sorted means m of a neuron, m[i] is the larger one in i pairs and the smaller one in the others.
    places = np.arange(len(means))
    scores = (2 * places - len(means) + 1) @ (np.sort(means, axis=0) - means.min(axis=0))
    return Outcome(by_falling(scores), scores, _orders(rows, by_class))


def mean_difference(rows: Labelled) -> Outcome:
    """Rank by |mean in a class - mean outside it| in standard deviations of the neuron, the largest over classes."""
    moments = class_moments(rows)
    # The mean outside a class is as far on the other side of the mean of all as the class' share makes it.
    differences = np.abs(moments.means - moments.mean) / (1 - moments.shares)[:, None] / _deviations(moments)
    scores = differences.max(axis=0)
    return Outcome(by_falling(scores), scores, _orders(rows, differences))


def _deviations(moments: ClassMoments) -> np.ndarray:
    """Standard deviations; 1 for a constant neuron, whose differences are 0."""
    deviations = np.sqrt(moments.variance)
    return np.where(deviations > 0, deviations, 1.0)


def _orders(rows: Labelled, scores: ByClass) -> dict[str, np.ndarray]:
    return {name: by_falling(scores[code]) for code, name in enumerate(rows.classes)}
