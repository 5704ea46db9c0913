NULL = {}


def null_band(n, s):
    return None
