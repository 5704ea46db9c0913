"""How often each gate lets noise pass, and how often it finds a real edge, by simulation.

One module per family of statistics with ``rows(repetitions, generator)``: dictionaries with the
keys test, data, n, threshold, pass_rate, standard_error and repetitions.
"""
