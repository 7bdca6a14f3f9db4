"""Tuning: a search over the points of the strategies, measured on this machine and recorded in logs.

``logs`` and ``index`` read and write the folders and need no TVM; ``lookup`` is what ``compile`` asks.
``space`` turns the strategies' spaces into a meta_schedule search space, ``search`` runs its evolutionary
search on one spec, ``tuner`` distributes trials over several; ``builder`` and ``runner`` build and measure
candidates in their own processes.
"""
