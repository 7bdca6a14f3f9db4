"""Tuning: a search over the points of the strategies, measured on this machine and remembered in logs.

``logs`` and ``index`` read and write the folders and need no TVM; ``lookup`` is what ``compile`` asks.
``space`` makes a search space of meta_schedule out of the strategies' own, ``search`` runs its evolutionary
search on one spec, ``tuner`` spends trials over several; ``builder`` and ``runner`` build and measure
candidates in processes of their own.
"""
