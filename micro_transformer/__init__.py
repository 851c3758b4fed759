"""A lab that measures the benefit and the cost of each component of a Transformer."""

import logging

__version__ = "0.1.0"

# Hides matplotlib's message about building its font cache at the first import.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
