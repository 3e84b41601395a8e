"""Imported once by the server from which ranks are forked."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import worldpm.training.trainer  # noqa: F401
