"""How Sphinx builds the site from what ``building.py`` gathered: nothing runs, all is local."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # linking; utils, whose docstrings are read

project = "Federated learning, hands on"
author = "the contributors"
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "linking"]
exclude_patterns = []

nb_execution_mode = "off"  # the outputs are those that were committed
nb_ipywidgets_js = {}  # the default loads scripts from elsewhere
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_heading_slug_func = "linking.slug"
suppress_warnings = ["myst.header"]  # a lesson may go from ## to ####

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True

html_theme = "sphinx_book_theme"
html_title = project
templates_path = [str(HERE / "templates")]
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_favicon = str(HERE / "static" / "favicon.svg")
html_context = {"default_mode": "auto"}  # light or dark, as the reader's machine has it
html_math_renderer = "mathml"
html_copy_source = False
html_use_index = False  # the glossary and the search serve better
html_domain_indices = False
html_show_sourcelink = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "show_prev_next": False,  # a lesson ends with what comes next; solutions are not that
    "footer_content_items": [],
    "search_bar_text": "Search the course",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
