"""Inference: from draws of the network to posteriors of the parameters of a functional form."""
