"""Learning a behaviour inside the model: starts, imagination, targets, rewards, actor-critic."""
