"""Edits: changes of value slots that are recorded, shown, undone bit for bit, and saved with the model.

Edits of one model stack. One may be undone before a later one where the two share no slot; where they do, the later
one has to go first, and `undo` says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.edit_files import EditError, read_record, versions, write_folder
from neuronatlas.models.model import Model
from neuronatlas.models.slots import SITE, Slots, value_slots
from neuronatlas.neurons import Neuron, NeuronError, NeuronSet

__all__ = ["Edit", "EditError", "SlotChange", "apply_edit", "live_edits", "read_edits", "require_known", "save_edits"]


@dataclass(frozen=True, eq=False)
class SlotChange:
    """Slots of one layer or expert, as they were and as they are."""

    slots: Slots
    before: Float[Tensor, "slot width"]
    after: Float[Tensor, "slot width"]


@dataclass(eq=False)
class Edit:
    """A change of a model's value slots: what was done, how, and the slots before and after.

    `kind` names the method, `settings` all that it was told and found (ready for JSON), `digests` are the model's
    before and after. `undone` says that the model has its old slots back.
    """

    model: Model = field(repr=False)
    kind: str
    settings: Mapping[str, Any]
    changes: tuple[SlotChange, ...] = field(repr=False)
    digests: tuple[str, str]
    undone: bool = False

    @property
    def neurons(self) -> tuple[Neuron, ...]:
        """Neurons whose value slots changed, in address order."""
        return tuple(sorted(neuron for change in self.changes for neuron in change.slots.neurons))

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that changed: with those that share weights with a layer of the neurons."""
        return tuple(sorted({layer for change in self.changes for layer in change.slots.layers}))

    @property
    def size(self) -> float:
        """Length of the whole change: the root of the sum of its squares."""
        squares = [float((c.after.double() - c.before.double()).pow(2).sum()) for c in self.changes]
        return math.sqrt(sum(squares))

    def undo(self) -> None:
        """Give the model its old slots back, bit for bit.

        Errors: EditError, the model untouched, when the edit was undone before, when a later edit that still stands
        changed one of its slots (undo that one first), or when something else changed them.
        """
        history = self.model.history
        if self.undone:
            raise EditError(f"this edit ({self.summary}) was undone already")
        later = history.live[history.live.index(self) + 1 :]
        for other in reversed(later):
            both = sorted(_places(self) & _places(other))
            if both:
                name, _, unit = both[0]
                raise EditError(
                    f"a later edit ({other.summary}) changed slot {unit} of {name} too: undo that one first"
                )
        for change in self.changes:
            if not _same_bits(change.slots.read(), change.after):
                raise EditError(
                    f"the slots in {change.slots.parameter} are not as this edit left them: "
                    "the model was changed by something else and cannot be restored"
                )
        digest = self.model.digest
        with _all_or_nothing(self.model, [(change.slots, change.after) for change in self.changes]):
            for change in self.changes:
                change.slots.write(change.before)
            now = self.model.digest
            history.live.remove(self)
            history.moved(digest, now)
            self.undone = True

    def redo(self) -> None:
        """Write the edit again after it was undone, as the latest of those that stand.

        Errors: EditError, the model untouched, for an edit that stands, or slots that are not as it found them.
        """
        if not self.undone:
            raise EditError(f"this edit ({self.summary}) stands: there is nothing to write again")
        for change in self.changes:
            if not _same_bits(change.slots.read(), change.before):
                raise EditError(
                    f"the slots in {change.slots.parameter} are not as this edit found them: undo what changed them"
                )
        digest = self.model.digest
        with _all_or_nothing(self.model, [(change.slots, change.before) for change in self.changes]):
            for change in self.changes:
                change.slots.write(change.after)
            digests = digest, self.model.digest
            self.model.history.live.append(self)
            self.model.history.moved(*digests)
            self.undone, self.digests = False, digests

    def diff(self) -> pl.DataFrame:
        """What changed, a row a value slot.

        Columns: neuron, layers (those that use the slot), parameter, norm_before, norm_after, change (length of the
        difference), cosine (between before and after; null where one is 0).
        """
        rows: list[dict[str, Any]] = []
        for change in self.changes:
            before, after = change.before.double(), change.after.double()
            norms, ends = before.norm(dim=1), after.norm(dim=1)
            dots, moved = (before * after).sum(1), (after - before).norm(dim=1)
            for row, neuron in enumerate(change.slots.neurons):
                lengths = float(norms[row] * ends[row])
                rows.append(
                    {
                        "neuron": str(neuron),
                        "layers": list(change.slots.layers),
                        "parameter": change.slots.parameter,
                        "norm_before": float(norms[row]),
                        "norm_after": float(ends[row]),
                        "change": float(moved[row]),
                        "cosine": float(dots[row]) / lengths if lengths else None,
                    }
                )
        return pl.DataFrame(rows, schema=_DIFF)

    def save(self, folder: str | Path) -> Path:
        """Write the model as it is now to a new folder that transformers loads, with the record of its edits.

        The record (`neuronatlas-edits.json`) lists every edit that stands, this one and those stacked under or over it:
        what was asked, which slots of which weights changed, and the model's digests before and after. The slots
        themselves lie beside it, so that `read_edits` can undo them.

        Errors: EditError for an edit that was undone, or a folder that exists.
        """
        if self.undone:
            raise EditError(f"this edit ({self.summary}) was undone: there is nothing of it to save")
        return save_edits(self.model, folder)

    def record(self) -> dict[str, Any]:
        """All about the edit but the numbers in its slots, ready for JSON."""
        return {
            "kind": self.kind,
            "settings": dict(self.settings),
            "neurons": [str(neuron) for neuron in self.neurons],
            "layers": list(self.layers),
            "digest_before": self.digests[0],
            "digest_after": self.digests[1],
            "size": self.size,
            "slots": self.diff().to_dicts(),
        }

    @property
    def summary(self) -> str:
        """The edit in a few words."""
        about = self.settings.get("about", "")
        return f"{self.kind} of {len(self.neurons)} value slots" + (f": {about}" if about else "")


_DIFF: dict[str, pl.DataType | type[pl.DataType]] = {
    "neuron": pl.String,
    "layers": pl.List(pl.Int64),
    "parameter": pl.String,
    "norm_before": pl.Float64,
    "norm_after": pl.Float64,
    "change": pl.Float64,
    "cosine": pl.Float64,
}


def save_edits(model: Model, folder: str | Path) -> Path:
    """Write a model and the record of the edits that stand, none or more, to a new folder; see `Edit.save`."""
    path = Path(folder).expanduser()
    tensors, edits = dict[str, Tensor](), []
    for number, edit in enumerate(live_edits(model)):
        edits.append(edit.record())
        for group, change in enumerate(edit.changes):
            tensors |= {f"{number}.{group}.before": change.before, f"{number}.{group}.after": change.after}
    about = {"model": model.name, "revision": model.revision, "dtype": str(model.dtype).removeprefix("torch.")}
    known = sorted(model.history.known(model.digest))
    record = about | {"digest": model.digest, "known": known, "versions": versions(), "edits": edits}
    write_folder(model, path, record, tensors)
    return path


def live_edits(model: Model) -> tuple[Edit, ...]:
    """The edits of a model that stand, oldest first."""
    return tuple(model.history.live)


def require_known(model: Model, neurons: NeuronSet) -> NeuronSet:
    """The same neurons as addresses of the model as it is now.

    They must have been found in this model, as it is or as it was before edits that were recorded: those move weights,
    not addresses.

    Errors: LayoutMismatchError when they are of another model or site, or something else changed the model since.
    """
    layout = model.layout(neurons.layout.site)
    if neurons.layout.digest in model.history.known(layout.digest):
        layout.require(replace(neurons.layout, digest=layout.digest))
    else:
        layout.require(neurons.layout)
    return NeuronSet.of(layout, neurons)


def apply_edit(
    model: Model,
    kind: str,
    settings: Mapping[str, Any],
    slots: Sequence[Slots],
    values: Sequence[Float[Tensor, "slot width"]],
) -> Edit:
    """Write new values to slots and record it; the model stays untouched where that fails.

    Errors: EditError for values that are not finite in the weights' own precision, or that change nothing.
    """
    changes = []
    for group, wanted in zip(slots, values, strict=True):
        before, after = group.read(), wanted.to(group.weight)
        if not bool(torch.isfinite(after).all()):
            where = group.neurons[int((~torch.isfinite(after)).any(1).nonzero()[0])]
            raise EditError(f"the new value slot of {where} is not finite in {after.dtype}: a smaller change expected")
        moved = [row for row in range(len(before)) if not _same_bits(before[row], after[row])]
        if moved:
            kept = replace(group, neurons=tuple(group.neurons[row] for row in moved))
            changes.append(SlotChange(kept, before[moved], after[moved]))
    if not changes:
        raise EditError(f"{kind} would change nothing: every slot already is what it would become")
    digest = model.digest
    with _all_or_nothing(model, [(change.slots, change.before) for change in changes]):
        for change in changes:
            change.slots.write(change.after)
        edit = Edit(model, kind, settings, tuple(changes), (digest, model.digest))
        model.history.live.append(edit)
        model.history.moved(*edit.digests)
    return edit


@contextmanager
def _all_or_nothing(model: Model, old: Sequence[tuple[Slots, Tensor]]) -> Iterator[None]:
    """Give slots their old values and the model its history back when what is done inside fails or is interrupted.

    The digest of a large model takes long enough for somebody to interrupt it.
    """
    history = model.history
    kept = list(history.live), set(history.digests), history.current
    try:
        yield
    except BaseException:
        for slots, values in old:
            slots.write(values)
        history.live, history.digests, history.current = kept
        raise


def read_edits(model: Model, folder: str | Path) -> tuple[Edit, ...]:
    """The edits recorded in the folder that a model was loaded from, so that they can be looked at and undone.

    Errors: EditError when the folder has no record, the model is not the one that was saved there (by its digest: load
    it in the dtype it was saved in), or it has edits already.

    >>> import tempfile, neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = na.erase(model, model.layout().set(["L3.U10"])).save(Path(folder) / "edited")
    ...     [edit] = read_edits(na.load(path), path)
    >>> edit.kind, edit.neurons
    ('erase', (Neuron(layer=3, unit=10, expert=None),))
    """
    record, tensors = read_record(folder)
    if model.history.live:
        raise EditError(f"{model.name} has {len(model.history.live)} edits already: load it anew")
    if record.get("digest") != model.digest:
        raise EditError(
            f"the weights of {model.name} ({model.digest}) are not those saved with the record in {folder} "
            f"({record.get('digest')}, {record.get('dtype')}): load the model from that folder, in that dtype"
        )
    edits = []
    try:
        for number, entry in enumerate(record["edits"]):
            changes = _recorded(model, number, entry, tensors)
            digests = str(entry["digest_before"]), str(entry["digest_after"])
            edits.append(Edit(model, entry["kind"], entry["settings"], changes, digests))
    except (KeyError, TypeError, NeuronError) as error:
        raise EditError(f"the record of edits in {folder} does not fit the model: {error}") from error
    model.history.live.extend(edits)
    for edit in edits:
        model.history.moved(*edit.digests)
    # Edits that were undone before the model was saved moved its digest too.
    model.history.resumed(map(str, record.get("known", ())), model.digest)
    return tuple(edits)


def _recorded(
    model: Model, number: int, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[SlotChange, ...]:
    slots = value_slots(model, model.layout(SITE).set(entry["neurons"]))
    changes = []
    for group, found in enumerate(slots):
        before, after = (tensors[f"{number}.{group}.{when}"].to(found.weight.device) for when in ("before", "after"))
        changes.append(SlotChange(found, before, after))
    return tuple(changes)


def _places(edit: Edit) -> set[tuple[str, int, int]]:
    """The slots of an edit: each by its weights, the matrix of a stack (-1 for none), and its index there."""
    return {
        (change.slots.parameter, -1 if change.slots.matrix is None else change.slots.matrix, unit)
        for change in edit.changes
        for unit in change.slots.units
    }


def _same_bits(first: Tensor, second: Tensor) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape or first.device != second.device:
        return False
    return torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))
