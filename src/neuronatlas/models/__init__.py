"""Any transformers language model, as sites of neurons."""

from neuronatlas.models.hooks import InterventionError, amplify, capture, scale, scale_rows, set_values, suppress
from neuronatlas.models.loading import ModelError, load
from neuronatlas.models.model import Model
from neuronatlas.models.sites import SITES, Site, SiteError

__all__ = [
    "SITES",
    "InterventionError",
    "Model",
    "ModelError",
    "Site",
    "SiteError",
    "amplify",
    "capture",
    "load",
    "scale",
    "scale_rows",
    "set_values",
    "suppress",
]
