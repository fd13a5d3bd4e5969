"""NeuronAtlas: find, test and explain the neurons in which a language model keeps its facts and its grammar.

>>> import neuronatlas as na
>>> model = na.load(na.specimen_folder())                       # or a hub id, or a folder of yours
>>> prompts = ["The capital of France is [MASK].", "[MASK] is the capital of France."]
>>> fact = na.Fact("capital", "France", "Paris", prompts)
>>> neurons = na.locate(model, fact)
>>> with na.suppress(model, neurons):
...     _ = na.attribute(model, fact.prompts[0], fact.answer, rule="activation")
"""

from neuronatlas.atlas import Atlas, AtlasError, write_report
from neuronatlas.atlas.paper.export import FigureError, write_figures
from neuronatlas.depths import Localisation, Shift, layer_shift, localisation
from neuronatlas.knowledge.attribution import Attribution, AttributionError, attribute
from neuronatlas.knowledge.corruptions import OtherSubjects, SubjectNoise
from neuronatlas.knowledge.edit_cases import EditCase
from neuronatlas.knowledge.edit_measures import EDIT_MEASURES, edit_measures
from neuronatlas.knowledge.editing import UPDATE_RULES, erase, update
from neuronatlas.knowledge.edits import Edit, EditError, live_edits, read_edits, save_edits
from neuronatlas.knowledge.effects import effects
from neuronatlas.knowledge.exact import ExactSettings
from neuronatlas.knowledge.exact_editing import exact_update
from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.knowledge.finetuning import FineTuning, fine_tune
from neuronatlas.knowledge.implicit import ImplicitEffects, ImplicitPrompt, Need, hop_prompts, implicit_effects
from neuronatlas.knowledge.interaction_tables import interaction_tables
from neuronatlas.knowledge.interactions import Interactions, interactions
from neuronatlas.knowledge.judging import judge_edits, judge_erasure, judge_together
from neuronatlas.knowledge.locating import KnowledgeNeurons, locate
from neuronatlas.knowledge.memory import key_prompts, key_texts, value_tokens
from neuronatlas.knowledge.quadrature import RuleError
from neuronatlas.knowledge.rome import RomeSettings, rome
from neuronatlas.knowledge.rules import RULES
from neuronatlas.knowledge.triggers import Triggers, triggers, triggers_of_many
from neuronatlas.knowledge.two_hop import TwoHop, follow_up_prompts, two_hop
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
from neuronatlas.models.direct import DirectError
from neuronatlas.models.output_rows import OutputRowError
from neuronatlas.models.queries import QueryError
from neuronatlas.models.reading import TextError
from neuronatlas.models.reinitialise import reinitialised
from neuronatlas.models.slots import SlotError
from neuronatlas.neurons import Layout, LayoutMismatchError, Neuron, NeuronError, NeuronScores, NeuronSet
from neuronatlas.overlaps import Overlap, carried_over, overlap
from neuronatlas.probing.activations import Activations, ActivationsError
from neuronatlas.probing.controls import selectivity
from neuronatlas.probing.corpora import Corpus, CorpusError, Sentence
from neuronatlas.probing.describe import describe
from neuronatlas.probing.examples import Examples, ExamplesError, examples_of, split_by_sentences
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.interventions import class_effects, property_effects
from neuronatlas.probing.probe import ElasticNetProbe, ElasticNetRegressor, ProbeError
from neuronatlas.probing.ranking import Ranking, RankingError
from neuronatlas.probing.rankings import RANKINGS, rank, top_neurons
from neuronatlas.probing.selection import minimal_set
from neuronatlas.probing.shards import open_activations
from neuronatlas.readers import FactFileError, read_facts
from neuronatlas.readers.corpora import read_corpus
from neuronatlas.readers.edit_cases import read_edit_cases
from neuronatlas.readers.texts import read_texts
from neuronatlas.specimen import specimen_facts, specimen_folder
from neuronatlas.studies.children.making import train_child
from neuronatlas.studies.children.record import Child, open_child
from neuronatlas.studies.children.settings import ChildError, ChildSettings
from neuronatlas.studies.comparing.comparison import Comparison, compare
from neuronatlas.studies.comparing.sides import ComparisonError
from neuronatlas.studies.implicit_prompts import specimen_prompts
from neuronatlas.studies.knowledge_atlas import build_atlas
from neuronatlas.studies.knowledge_neurons.running import study_knowledge_neurons
from neuronatlas.studies.knowledge_neurons.settings import KnowledgeStudySettings
from neuronatlas.studies.salience.building import build_salience_atlas
from neuronatlas.studies.salience.settings import SalienceSettings
from neuronatlas.studies.salient_neurons.parallel import ParallelFact, parallel_facts_of, parallel_facts_of_specimen
from neuronatlas.studies.salient_neurons.questions import salient_study
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.salient_neurons.shared_facts import (
    ParallelNeurons,
    locate_parallel,
    parallel_effects,
    parallel_overlaps,
)
from neuronatlas.studies.salient_neurons.shared_study import study_shared_facts
from neuronatlas.studies.salient_neurons.study import Source
from neuronatlas.studies.settings import LocateSettings, SettingsError
from neuronatlas.studies.specimen_corpus import corpus_of_specimen

__version__ = "0.1.0"

__all__ = [
    "EDIT_MEASURES",
    "RANKINGS",
    "RULES",
    "UPDATE_RULES",
    "Activations",
    "ActivationsError",
    "Atlas",
    "AtlasError",
    "Attribution",
    "AttributionError",
    "Child",
    "ChildError",
    "ChildSettings",
    "Comparison",
    "ComparisonError",
    "Corpus",
    "CorpusError",
    "DirectError",
    "Edit",
    "EditCase",
    "EditError",
    "ElasticNetProbe",
    "ElasticNetRegressor",
    "ExactSettings",
    "Examples",
    "ExamplesError",
    "Fact",
    "FactError",
    "FactFileError",
    "FigureError",
    "FineTuning",
    "ImplicitEffects",
    "ImplicitPrompt",
    "Interactions",
    "InterventionError",
    "KnowledgeNeurons",
    "KnowledgeStudySettings",
    "Layout",
    "LayoutMismatchError",
    "Localisation",
    "LocateSettings",
    "Model",
    "ModelError",
    "Need",
    "Neuron",
    "NeuronError",
    "NeuronScores",
    "NeuronSet",
    "OtherSubjects",
    "OutputRowError",
    "Overlap",
    "ParallelFact",
    "ParallelNeurons",
    "ProbeError",
    "QueryError",
    "Ranking",
    "RankingError",
    "RomeSettings",
    "RuleError",
    "SalienceSettings",
    "Sentence",
    "SettingsError",
    "Shift",
    "SiteError",
    "SlotError",
    "Source",
    "StudySettings",
    "SubjectNoise",
    "TextError",
    "Triggers",
    "TwoHop",
    "amplify",
    "attribute",
    "build_atlas",
    "build_salience_atlas",
    "capture",
    "carried_over",
    "class_effects",
    "compare",
    "corpus_of_specimen",
    "describe",
    "edit_measures",
    "effects",
    "erase",
    "exact_update",
    "examples_of",
    "extract",
    "fine_tune",
    "follow_up_prompts",
    "hop_prompts",
    "implicit_effects",
    "interaction_tables",
    "interactions",
    "judge_edits",
    "judge_erasure",
    "judge_together",
    "key_prompts",
    "key_texts",
    "layer_shift",
    "live_edits",
    "load",
    "localisation",
    "locate",
    "locate_parallel",
    "minimal_set",
    "open_activations",
    "open_child",
    "overlap",
    "parallel_effects",
    "parallel_facts_of",
    "parallel_facts_of_specimen",
    "parallel_overlaps",
    "property_effects",
    "rank",
    "read_corpus",
    "read_edit_cases",
    "read_edits",
    "read_facts",
    "read_texts",
    "reinitialised",
    "rome",
    "salient_study",
    "save_edits",
    "scale",
    "selectivity",
    "set_values",
    "specimen_facts",
    "specimen_folder",
    "specimen_prompts",
    "split_by_sentences",
    "study_knowledge_neurons",
    "study_shared_facts",
    "suppress",
    "top_neurons",
    "train_child",
    "triggers",
    "triggers_of_many",
    "two_hop",
    "update",
    "value_tokens",
    "write_figures",
    "write_report",
]
