"""Settings of the documentation site: `make docs` builds it into docs/_build/html."""

import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]  # for `site_pages`, and for a checkout that is not installed

PROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Homepage"]

project = "dbn"
author = "dbn contributors"
copyright = author
release = version = PROJECT["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "site_pages"]
exclude_patterns = ["_build", "results/*.md"]
smartquotes_action = "De"  # dashes, but quotes as they are in code
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries, whose pages are not looked up

myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"dbn {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = ">>> |\\$ "
copybutton_prompt_is_regexp = True
