"""Experiments end to end: what fills an atlas."""
