"""DECIG: Shah and Bharaj 2022, "Towards Device Efficient Conditional Image Generation"."""
