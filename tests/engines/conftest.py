"""Tests against real engines: `make vllm` makes their environment and runs them."""

from __future__ import annotations

import importlib.util
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


@pytest.fixture(scope="session", autouse=True)
def vllm() -> None:
    """Outside the environment of `make vllm` these tests say so; inside it nothing may miss."""
    if importlib.util.find_spec("vllm") is None:
        if os.environ.get("MMEVAL_ENGINES"):
            pytest.fail("vllm is not installed here, and these tests must run")
        pytest.skip("vllm is not installed here: run `make vllm`")
