"""`python -m neuronatlas`: the command line."""

from neuronatlas.cli import app

if __name__ == "__main__":
    app(prog_name="neuronatlas")
