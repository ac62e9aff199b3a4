"""Embeddings of many videos and captions in one file, and searching them.

`ivjax.embed(weights, videos, out)` is `ivjax.embed.embedding_job.embed`: it writes that file.
"""

from ivjax.callable_package import called_as

called_as(__name__, "ivjax.embed.embedding_job", "embed")
