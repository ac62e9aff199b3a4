"""Benchmarks behind `ivjax bench`: ratios from one run, one JSON line each."""
