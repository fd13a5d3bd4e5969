"""Files of facts and of labelled text, read: one module a format."""

from neuronatlas.readers.corpora import CORPUS_FORMATS, CorpusFormat, read_corpus
from neuronatlas.readers.facts import FACT_FORMATS, FactFormat, read_facts
from neuronatlas.readers.files import CorpusFileError, FactFileError, FactFileWarning

__all__ = [
    "CORPUS_FORMATS",
    "FACT_FORMATS",
    "CorpusFileError",
    "CorpusFormat",
    "FactFileError",
    "FactFileWarning",
    "FactFormat",
    "read_corpus",
    "read_facts",
]
