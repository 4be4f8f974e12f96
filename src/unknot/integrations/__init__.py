"""unknot inside other people's trainers and trackers; each module needs its library, nothing else does.

>>> from unknot.integrations.lightning import TopologyCallback       # pip install 'unknot[lightning]'
>>> from unknot.integrations.tensorboard import TensorBoardWriter    # pip install 'unknot[trackers]'
>>> pl.Trainer(callbacks=[TopologyCallback(on_record=[TensorBoardWriter("runs/a")])])  # doctest: +SKIP
"""
