"""The optimisers by name: each is a subclass of `Optimizer`, with an entry here and in config.OPTIMIZERS."""

from nst.engine.optimizers.adam import Adam
from nst.engine.optimizers.base import NonFiniteError, Optimizer, Vector
from nst.engine.optimizers.lbfgs import LBFGS

OPTIMIZERS = {"lbfgs": LBFGS, "adam": Adam}

__all__ = ["LBFGS", "OPTIMIZERS", "Adam", "NonFiniteError", "Optimizer", "Vector"]
