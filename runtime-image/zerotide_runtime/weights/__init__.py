"""Model files: GGUF in, safetensors out, and from there into memory."""
