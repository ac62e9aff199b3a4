"""Converts PyTorch checkpoints to parameters of this project and back.

`formats` reads and writes files, `engine` matches tensors with parameters, `families` holds one table for
each kind of checkpoint. The modules here put them together; `loading` is `ivjax.load`.
"""
