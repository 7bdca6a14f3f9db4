"""Folders of tuning logs: their files, entries, and which record serves a spec. No TVM."""
