"""Who collects data: random actions, an expert that learns from the simulator's state, exploration from state."""
