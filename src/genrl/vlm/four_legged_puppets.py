"""Puppets of the four-legged bodies; what a clip shows is decided by the rules, not by the puppeteer's intention."""

from __future__ import annotations

from genrl.vlm.cheetah_puppets import CHEETAH_PUPPETS, cheetah_clip
from genrl.vlm.spider_puppets import SPIDER_PUPPETS, spider_clip

__all__ = ["CHEETAH_PUPPETS", "SPIDER_PUPPETS", "cheetah_clip", "spider_clip"]
