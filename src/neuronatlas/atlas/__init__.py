"""The output of a run: a folder of tables with its provenance, its figures and its report."""

from neuronatlas.atlas.provenance import AtlasError
from neuronatlas.atlas.report import write_report
from neuronatlas.atlas.store import Atlas

__all__ = ["Atlas", "AtlasError", "write_report"]
