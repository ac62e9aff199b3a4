"""Decoder-only language models: InternLM2, LLaMA and Vicuna, Mistral, Qwen2 and Phi-3 by their size alone."""
