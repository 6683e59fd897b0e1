"""Frozen video-language models: the protocol, the embedded one and how it is trained."""
