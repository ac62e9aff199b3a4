"""The one train loop and what it stands on. Never names a stage: it is given one.

`ivjax.train(experiment, folder)` is `ivjax.train.loop.train`: it trains an experiment in a run folder.
"""

from ivjax.callable_package import called_as

called_as(__name__, "ivjax.train.loop", "train")
