"""NeuronAtlas: find, test and explain the neurons in which a language model keeps its facts.

>>> import neuronatlas as na
>>> model = na.load(na.specimen_folder())                       # or a hub id, or a folder of yours
>>> prompts = ["The capital of France is [MASK].", "[MASK] is the capital of France."]
>>> fact = na.Fact("capital", "France", "Paris", prompts)
>>> neurons = na.locate(model, fact)
>>> with na.suppress(model, neurons):
...     _ = na.attribute(model, fact.prompts[0], fact.answer, rule="activation")
"""

from neuronatlas.atlas import Atlas, AtlasError, write_report
from neuronatlas.knowledge.attribution import Attribution, AttributionError, attribute
from neuronatlas.knowledge.effects import effects
from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.knowledge.locating import KnowledgeNeurons, locate
from neuronatlas.knowledge.quadrature import RULES, RuleError
from neuronatlas.models import (
    InterventionError,
    Model,
    ModelError,
    SiteError,
    amplify,
    capture,
    load,
    scale,
    set_values,
    suppress,
)
from neuronatlas.models.answers import QueryError
from neuronatlas.neurons import Layout, LayoutMismatchError, Neuron, NeuronError, NeuronScores, NeuronSet
from neuronatlas.readers import FactFileError, read_facts
from neuronatlas.specimen import specimen_facts, specimen_folder
from neuronatlas.studies.knowledge_atlas import build_atlas
from neuronatlas.studies.settings import LocateSettings, SettingsError

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "Atlas",
    "AtlasError",
    "Attribution",
    "AttributionError",
    "Fact",
    "FactError",
    "FactFileError",
    "InterventionError",
    "KnowledgeNeurons",
    "Layout",
    "LayoutMismatchError",
    "LocateSettings",
    "Model",
    "ModelError",
    "Neuron",
    "NeuronError",
    "NeuronScores",
    "NeuronSet",
    "QueryError",
    "RuleError",
    "SettingsError",
    "SiteError",
    "amplify",
    "attribute",
    "build_atlas",
    "capture",
    "effects",
    "load",
    "locate",
    "read_facts",
    "scale",
    "set_values",
    "specimen_facts",
    "specimen_folder",
    "suppress",
    "write_report",
]
