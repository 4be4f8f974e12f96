"""See, speed up and shrink neural networks by the topology of the data that flows through them.

The public names are listed in ``__init__.pyi``. Each is imported when it is first used, so that
``import unknot`` is quick and the topology of points needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
