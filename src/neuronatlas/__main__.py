"""`python -m neuronatlas`: the command line."""

from neuronatlas.cli import app

app(prog_name="neuronatlas")
