"""Where students live: what a runtime lacks before one is trained, and whether a file computes there what it did here."""
