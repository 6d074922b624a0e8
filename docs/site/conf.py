"""Sphinx's settings. ``docs/site/build.py`` says from which pages, and holds that nothing warns."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import colgraph

project = "colgraph"
author = copyright = "The colgraph developers"
version = release = colgraph.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "myst_nb",
    "extension",
]

# Pages: what GitHub shows is what is shown here.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 6
nb_execution_mode = "off"
nb_merge_streams = True
highlight_language = "none"
smartquotes = False

# Docstrings.
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shapes"]
napoleon_use_ivar = True
napoleon_use_rtype = False
maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"
python_use_unqualified_type_names = True
# Other libraries' names are no links: their pages are on other hosts.
nitpick_ignore_regex = [(r"py:.*", r"(?!colgraph).*\..*")]

# HTML that opens from disk: no other host, and no request for a page's text, which browsers refuse to pages from disk.
html_theme = "furo"
html_title = f"colgraph {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_search_summary = False
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#5b3a8e", "color-brand-content": "#5b3a8e"},
    "dark_css_variables": {"color-brand-primary": "#c3a6ee", "color-brand-content": "#c3a6ee"},
}
templates_path: list[str] = []
exclude_patterns = ["extra"]
