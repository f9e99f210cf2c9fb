from .lif import LIF
