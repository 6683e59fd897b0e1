"""Text tower of InternVideo2: the first 19 layers of BERT-large."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genrl.vlm.internvideo2_config import InternVideo2Config

TEXT_EPS = 1e-12


class TextTower(nn.Module):
    """Token numbers -> hidden states of the last layer in use; the first of them, `[CLS]`, stands for the text.

    Needs the package transformers (the extra `vlm`).
    """

    def __init__(self, config: InternVideo2Config) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.bert = BertModel(
            BertConfig(
                vocab_size=config.vocabulary_size,
                hidden_size=config.text_dim,
                num_hidden_layers=config.text_depth,
                num_attention_heads=config.text_heads,
                intermediate_size=config.text_mlp_dim,
                max_position_embeddings=config.text_positions,
                hidden_act="gelu",
                layer_norm_eps=TEXT_EPS,
                pad_token_id=0,
            ),
            add_pooling_layer=False,
        )

    def make_buffers(self, device: torch.device | str) -> None:
        """Give the embeddings' constants, which no file holds, their values after a construction on the meta device."""
        embeddings = self.bert.embeddings
        count = embeddings.position_embeddings.num_embeddings
        places = torch.arange(count, device=device).unsqueeze(0)
        embeddings.register_buffer("position_ids", places, persistent=False)
        embeddings.register_buffer("token_type_ids", torch.zeros_like(places), persistent=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of (N, M) token numbers; (N, M) mask, 1 for a token and 0 for padding -> (N, M, D)."""
        return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
