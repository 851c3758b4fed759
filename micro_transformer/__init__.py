"""A lab that measures what each part of a Transformer buys and what it costs."""

import logging

__version__ = "0.1.0"

# That matplotlib looks for fonts on its first day says nothing to a reader.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
