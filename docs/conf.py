"""How the documentation is built: `make docs`. Every warning is an error, and no page needs a network."""

from __future__ import annotations

import sys
from pathlib import Path

import neuronatlas

sys.path.insert(0, str(Path(__file__).resolve().parent / "extensions"))

project = "NeuronAtlas"
author = "NeuronAtlas contributors"
project_copyright = author
version = release = neuronatlas.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "mathml",
    "public_names",
    "docstrings",
    "command_line",
    "measures",
]
exclude_patterns = ["_build", "extensions", "static"]
html_static_path = ["static"]
smartquotes = False  # they would turn the two dashes of an option into one
nitpicky = True
# Other projects' names are not looked up: that would need their inventories from the network. Names of inner modules
# have no page, but for those that public_names.py finds.
nitpick_ignore_regex = [("py:.*", r"(?!neuronatlas\b).*"), ("py:.*", r"neuronatlas\.[a-z_]+\..*")]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"NeuronAtlas {version}"
html_logo = "static/logo.svg"
html_favicon = "static/favicon.svg"
html_css_files = ["neuronatlas.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#7ab8ff", "color-brand-content": "#7ab8ff"},
}
