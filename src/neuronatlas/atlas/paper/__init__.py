"""Figures for papers: those of the report as vector graphics, from the tables of an atlas alone.

The page's figures are drawn again with matplotlib (extra `figures`): plotly's own export needs a browser, and what a
browser writes differs from one version to the next.
"""
