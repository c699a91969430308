"""Training: simulations, objectives, the loop."""
