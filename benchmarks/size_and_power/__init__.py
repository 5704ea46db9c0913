"""How often tests pass on noise, and how often on real edges: rows for the documentation."""
