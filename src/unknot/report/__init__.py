"""One HTML page from results; it opens from disk and asks nobody else.

`results` reads what was saved, `profile`, `filters`, `study` and `outcome` turn each kind of result
into what the templates show, and `page` writes the file.
"""

from unknot.core.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)
