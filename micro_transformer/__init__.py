"""A lab that measures what each part of a Transformer buys and what it costs."""

__version__ = "0.1.0"
