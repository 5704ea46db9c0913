"""Real backends behind the ports, one folder and one extra per vendor. None yet."""
