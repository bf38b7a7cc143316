"""The site's own modules lie in a folder that is no package (Python has a module ``site``)."""

import sys
from pathlib import Path

SITE = Path(__file__).parents[2] / "site"
sys.path.insert(0, str(SITE))
