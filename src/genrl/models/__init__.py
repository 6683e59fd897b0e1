"""The multimodal-foundation world model: world model, connector, aligner."""
