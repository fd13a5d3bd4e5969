"""Made-up tables of an atlas of salient neurons: small sets suffice, and the model misses them a little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

Tables = dict[str, pl.DataFrame]
Rows = list[dict[str, Any]]

METHODS = ("lca", "probeless", "gaussian", "average-precision", "vote")
SHARES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
UPOS = "NOUN VERB PUNCT PRON ADP DET ADJ AUX PROPN ADV CCONJ PART SCONJ NUM INTJ SYM X"
ROLES = "punct nsubj case det root advmod obj obl nmod amod conj cc mark aux compound cop xcomp iobj"
SUFFIXES = "-s -ed -ing -er -ly -ion -al -ent -est -ive -ity -ous -ful"
CLASSES = {"upos": UPOS, "feats.Number": "Sing Plur", "suffix": SUFFIXES, "deprel": ROLES}
WORDS = "river walked quickly seven Paris the blue under because machine happily they twelve London which"
MOST_ASKED = 20
SOURCE = "en_ewt-ud-dev.conllu, line {}"


@dataclass(frozen=True)
class Recipe:
    """How large a made-up atlas is. A label with a number gets that many classes, else those of its name."""

    labels: tuple[str, ...] = ("upos", "feats.Number", "suffix", "deprel")
    n_classes: int = 0
    layers: int = 7
    width: int = 256
    interventions: bool = True
    level: str = "word"
    n_described: int = 12
    seed: int = 0

    @property
    def n_neurons(self) -> int:
        return self.layers * self.width

    def classes(self, label: str) -> list[str]:
        known = CLASSES[label].split() if label in CLASSES else [f"class {number}" for number in range(12)]
        if not self.n_classes:
            return known
        return [*known, *(f"({label}\\NP)/NP{number}" for number in range(self.n_classes))][: self.n_classes]


def salience_tables(recipe: Recipe) -> Tables:
    """Every table of an atlas of salient neurons."""
    parts: dict[str, Rows] = {}
    for place, label in enumerate(recipe.labels):
        random = np.random.default_rng([recipe.seed, place])
        one = _Label(recipe, label, place, random)
        for name, rows in one.tables().items():
            parts.setdefault(name, []).extend(rows)
    parts["overlaps"] = _overlaps(recipe, parts["sets"])
    return {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in parts.items() if rows}


def scored(value: float, half: float, name: str, stem: str = "") -> dict[str, float]:
    """A score with its interval, as columns NAME, STEM_low and STEM_high."""
    prefix = f"{stem or name}_"
    return {name: value, f"{prefix}low": max(0.0, value - half), f"{prefix}high": min(1.0, value + half)}


def plainly_scored(value: float, half: float) -> dict[str, float]:
    """An accuracy with its interval, as columns accuracy, low and high."""
    return {"accuracy": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def _overlaps(recipe: Recipe, sets: Rows) -> Rows:
    members = {
        label: {(row["layer"], row["unit"]) for row in sets if row["label"] == label and row["set"] == 0}
        for label in recipe.labels
    }
    rows: Rows = []
    for place, label in enumerate(recipe.labels):
        for other in recipe.labels[place + 1 :]:
            shared = members[label] & members[other]
            expected = len(members[label]) * len(members[other]) / recipe.n_neurons
            jaccard = len(shared) / len(members[label] | members[other])
            row = {"label": label, "other": other, "n_shared": len(shared), "jaccard": jaccard}
            rows.append(row | {"expected": expected, "p": float(min(1.0, expected / max(len(shared), 1)))})
    return rows


@dataclass(frozen=True)
class _Label:
    recipe: Recipe
    label: str
    place: int
    random: np.random.Generator

    def tables(self) -> dict[str, Rows]:
        order = self.order()
        sizes = np.maximum(1, (2000 * 0.75 ** np.arange(len(self.classes))).round()).astype(int)
        found = {
            "properties": [self.property()],
            "classes": self.class_rows(sizes),
            "dropped_classes": [{"class": "X", "n": 3}, {"class": "SYM", "n": 2}] if self.place == 0 else [],
            "rankings": self.rankings(order),
            "agreement": self.agreement(),
            "ablation": self.ablation(),
            "minimal": self.minimal(),
            "sets": self.sets(order),
            "disjoint": self.disjoint(),
            "layers": self.layers(order),
            "layer_probes": self.layer_probes(),
            "interventions": self.interventions(sizes) if self.recipe.interventions else [],
            "neurons": self.neurons(order),
            "contexts": self.contexts(order),
            "notes": [{"stage": "interventions", "note": "mean: 12 words are several tokens and were left out"}],
            "class_interventions": self.class_interventions(sizes) if self.recipe.interventions else [],
        }
        return {name: [{"label": self.label} | row for row in rows] for name, rows in found.items()}

    @property
    def classes(self) -> list[str]:
        return self.recipe.classes(self.label)

    @property
    def accuracy(self) -> float:
        return 0.95 - 0.04 * self.place

    @property
    def size(self) -> int:
        return max(1, round(self.recipe.n_neurons * (0.01 + 0.02 * self.place)))

    @property
    def majority(self) -> float:
        return max(0.17, 1 / len(self.classes))

    def noise(self, size: float = 0.005) -> float:
        return float(self.random.normal(0, size))

    def order(self) -> list[tuple[int, int]]:
        """All neurons, those about the property's own layer first."""
        layer = np.repeat(np.arange(self.recipe.layers), self.recipe.width)
        centre = (self.recipe.layers - 1) * (0.2 + 0.15 * self.place)
        score = self.random.gumbel(size=len(layer)) - 0.5 * np.abs(layer - centre)
        return [(int(i) // self.recipe.width, int(i) % self.recipe.width) for i in np.argsort(-score, kind="stable")]

    def property(self) -> dict[str, Any]:
        row: dict[str, Any] = {"level": self.recipe.level, "corpus": "en_ewt-ud-dev.conllu", "n_sentences": 2001}
        row |= {"n_items": 25147, "n_unlabelled": 310 * self.place, "n_vanished": 0, "n_truncated": 12 * self.place}
        row |= {"n_train": 17600, "n_dev": 3770, "n_test": 3772, "n_classes": len(self.classes)}
        row |= {"l1": 1e-3, "l2": 1e-3, "gap": 8.3e-7, "n_nonzero": self.recipe.n_neurons // 3}
        row |= scored(self.accuracy, 0.008, "accuracy") | {"majority": self.majority, "word_majority": 0.84}
        row |= scored(self.accuracy - 0.12, 0.011, "random_weights") | {"control_accuracy": self.accuracy - 0.21}
        row |= scored(0.21, 0.016, "selectivity")
        row |= {"seen_accuracy": self.accuracy + 0.01, "unseen_accuracy": self.accuracy - 0.05, "n_unseen": 611}
        row |= scored(self.accuracy - 0.07, 0.015, "by_type_accuracy", "by_type")
        row |= {"minimal_size": self.size, "minimal_share": self.size / self.recipe.n_neurons, "minimal_reached": True}
        row |= scored(self.accuracy - 0.009, 0.009, "minimal_accuracy", "minimal")
        row |= {"delta": 0.01, "n_disjoint": 4, "disjoint_bound": False}
        return row | {"n_clusters": self.recipe.n_neurons // 2, "redundant_share": 0.5, "cluster_threshold": 0.3}

    def class_rows(self, sizes: Any) -> Rows:
        rows: Rows = []
        for name, n in zip(self.classes, sizes.tolist(), strict=True):
            recall = min(0.99, self.accuracy + self.noise(0.05))
            row = {"class": name, "n_train": n * 4, "n_test": n} | scored(recall, min(0.2, 0.8 / n**0.5), "recall")
            rows.append(row | {"n_top": int(self.random.integers(1, 30)), "mass": 0.5})
        return rows

    def rankings(self, order: list[tuple[int, int]]) -> Rows:
        return [
            {"method": method, "rank": rank, "layer": layer, "unit": unit}
            for method in METHODS[:2]
            for rank, (layer, unit) in enumerate(order)
        ]

    def agreement(self) -> Rows:
        rows: Rows = []
        for k in sorted({max(1, round(share * self.recipe.n_neurons)) for share in (0.01, 0.05, 0.2)}):
            for first, method in enumerate(METHODS):
                for other in METHODS[first + 1 :]:
                    row = {
                        "method_a": method,
                        "method_b": other,
                        "k": k,
                        "overlap": float(self.random.uniform(0.2, 0.7)),
                    }
                    rows.append(row | {"chance": k / self.recipe.n_neurons})
        return rows

    def ablation(self) -> Rows:
        """As a study makes them: retraining with few neurons only; of other rankings than the first, the top ones."""
        speeds = {"top": 0.004, "random": 0.05, "bottom": 0.25}
        rows: Rows = []
        for method in METHODS:
            for mode, retrained in (("keep", True), ("keep", False), ("drop", False)):
                for which in speeds if method == METHODS[0] else ("top",):
                    for share in SHARES[:-2] if retrained else SHARES[:-1]:
                        left = 1 - np.exp(-share / speeds[which] * (2 if retrained else 1))
                        rest = left if mode == "keep" else 1 - 0.9 * share**0.5 * (1 - 2 * speeds[which])
                        value = self.majority + (self.accuracy - self.majority) * float(rest) + self.noise()
                        row = {"method": method, "which": which, "mode": mode, "retrained": retrained, "share": share}
                        row["n_neurons"] = max(1, round(share * self.recipe.n_neurons))
                        rows.append(row | plainly_scored(value, 0.012))
        return rows

    def minimal(self) -> Rows:
        tried = sorted({1, max(1, self.size // 4), max(1, self.size // 2), self.size, self.size * 2})
        rows: Rows = []
        for n in tried:
            value = self.accuracy - 0.01 * (self.size / n) ** 1.5
            rows.append(
                {"n_neurons": n, "share": n / self.recipe.n_neurons} | plainly_scored(max(self.majority, value), 0.01)
            )
        return rows

    def sets(self, order: list[tuple[int, int]]) -> Rows:
        rows: Rows = []
        for number in range(3):
            for layer, unit in order[number * self.size : (number + 1) * self.size]:
                rows.append({"set": number, "layer": layer, "unit": unit})
        return rows

    def disjoint(self) -> Rows:
        sizes = [self.size, round(self.size * 1.4) + 1, round(self.size * 2.3) + 2, round(self.size * 5) + 3]
        sizes.append(max(1, self.recipe.n_neurons - sum(sizes)))
        return [
            {"set": number, "n_neurons": n, "reached": number < 4}
            | plainly_scored(self.accuracy - (0.009 if number < 4 else 0.04), 0.009)
            for number, n in enumerate(sizes)
        ]

    def layers(self, order: list[tuple[int, int]]) -> Rows:
        rows: Rows = []
        for name in (None, *self.classes):
            some = order[: self.size] if name is None else order[: int(self.random.integers(5, 40))]
            for layer in range(self.recipe.layers):
                n = sum(place == layer for place, _ in some)
                rows.append({"class": name, "layer": layer, "n": n, "share": n / len(some), "width": self.recipe.width})
        return rows

    def layer_probes(self) -> Rows:
        rows: Rows = []
        for upto in (False, True):
            for layer in range(self.recipe.layers):
                best = (self.recipe.layers - 1) * (0.3 + 0.1 * self.place)
                away = max(0.0, best - layer) if upto else abs(best - layer)
                own = plainly_scored(self.accuracy - 0.015 * away + self.noise(), 0.01)
                rows.append({"layer": layer, "upto": upto, "dev_accuracy": own["accuracy"]} | own)
        return rows

    def interventions(self, sizes: Any) -> Rows:
        rows: Rows = []
        for set_size in (self.size, self.size * 4):
            for measure, scale in (("class mass", 1.0), ("P(word)", 0.4)):
                for name, n in [(None, int(sizes.sum())), *zip(self.classes, sizes.tolist(), strict=True)]:
                    rows.append(self.intervention(set_size, measure, scale, name, n))
        return rows

    def intervention(self, set_size: int, measure: str, scale: float, name: str | None, n: int) -> dict[str, Any]:
        before = float(self.random.uniform(0.3, 0.8)) * scale
        change = -scale * float(self.random.gamma(2, 0.03)) * (set_size / self.size) ** 0.5
        control, half = self.noise(0.008) * scale, 0.03 * scale
        p = 0.05 if change < control - half / 2 else 0.4
        row = {"set_size": set_size, "replacement": "mean", "class": name, "n_words": min(n, 50), "measure": measure}
        row |= {
            "before": before,
            "after": before + change,
            "change": change,
            "low": change - half,
            "high": change + half,
        }
        row |= {"control_mean": control, "control_low": control - half / 2, "control_high": control + half / 2}
        return row | {"n_controls": 40, "p": p / 2, "p_adjusted": None if name is None else p}

    def class_interventions(self, sizes: Any) -> Rows:
        """As a study makes them: a row for the mean over the classes, then one a class; the rare ones are left out."""
        asked = self.classes[:MOST_ASKED]
        rows: Rows = []
        for name, n in [(None, int(sizes.sum())), *zip(asked, sizes.tolist(), strict=False)]:
            row = self.intervention(self.size, "class mass", 1.0, name, n) | {"n_controls": 100, "variance_ratio": 1.0}
            row |= {"set_size": None if name is None else 3, "others_change": self.noise(), "left_out": None}
            rows.append(row)
        nothing: dict[str, Any] = dict.fromkeys(rows[0])
        why = f"not among the {MOST_ASKED} most frequent classes"
        return rows + [nothing | {"class": name, "left_out": why} for name in self.classes[MOST_ASKED:]]

    def neurons(self, order: list[tuple[int, int]]) -> Rows:
        rows: Rows = []
        for rank, (layer, unit) in enumerate(order[: self.recipe.n_described]):
            up, down = (self.random.permutation(WORDS.split())[:6].tolist() for _ in range(2))
            row = {"rank": rank, "layer": layer, "unit": unit, "class": self.classes[rank % len(self.classes)]}
            row |= {"direction": 1 if rank % 3 else -1, "auc": float(self.random.uniform(0.7, 0.99))}
            row |= {"eta_squared": float(self.random.uniform(0.1, 0.6)), "eta_squared_words": 0.7}
            rows.append(row | {"words_up": up, "words_down": down})
        return rows

    def contexts(self, order: list[tuple[int, int]]) -> Rows:
        rows: Rows = []
        for layer, unit in order[: self.recipe.n_described]:
            for direction in (1, -1):
                for place in range(3):
                    words = self.random.permutation(WORDS.split()).tolist()
                    row: dict[str, Any] = {"layer": layer, "unit": unit, "direction": direction, "place": place}
                    row |= {"value": direction * (6.0 - place), "word": words[0], "before": " ".join(words[1:9]) + " "}
                    row |= {"after": " " + " ".join(words[9:]), "source": SOURCE.format(10 * unit + place)}
                    rows.append(row)
        return rows
