"""Files of facts, read: one module a format."""

from neuronatlas.readers.facts import FACT_FORMATS, FactFormat, read_facts
from neuronatlas.readers.files import FactFileError, FactFileWarning

__all__ = ["FACT_FORMATS", "FactFileError", "FactFileWarning", "FactFormat", "read_facts"]
