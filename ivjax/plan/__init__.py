"""Plans a run before any accelerator is rented: memory, time and cost of an experiment on a topology.

`ivjax.plan(experiment, "v5e:16x16")` is `ivjax.plan.planning.plan`.
"""

from ivjax.callable_package import called_as

called_as(__name__, "ivjax.plan.planning", "plan")
