"""Records ``nest_plasticity.npz`` with NEST 3.10.0 (``pip install nest-simulator==3.10.0``).

One plastic synapse between two neurons that repeat given spikes for 100 s at a step of 1 ms. The file holds the steps
of the spikes of both, and for each rule its parameters and the weight at each presynaptic spike, after the changes up
to it. NEST counts its delay of 1 ms on the way back from the postsynaptic neuron, whose spikes reach the synapse a step
later.
"""

from pathlib import Path

import nest
import numpy as np

STEPS = 100_000
CASES = {
    "additive": ("stdp_synapse", {"mu_plus": 0.0, "mu_minus": 0.0, "alpha": 1.02, "lambda": 0.01}),
    "multiplicative": ("stdp_synapse", {"mu_plus": 1.0, "mu_minus": 1.0, "alpha": 1.02, "lambda": 0.02}),
    "between": ("stdp_synapse", {"mu_plus": 0.4, "mu_minus": 0.4, "alpha": 1.02, "lambda": 0.02}),
    "van_rossum": ("stdp_synapse", {"mu_plus": 0.0, "mu_minus": 1.0, "alpha": 1.3, "lambda": 0.01}),
    "nearest": ("stdp_nn_symm_synapse", {"mu_plus": 0.0, "mu_minus": 1.0, "alpha": 1.3, "lambda": 0.02}),
    "triplet": ("stdp_triplet_synapse", {"Aplus": 0.002, "Aminus": 0.007, "Aplus_triplet": 0.0062,
                                         "Aminus_triplet": 0.00023, "tau_plus_triplet": 101.0}),
    "vogels": ("vogels_sprekeler_synapse", {"tau": 31.0, "eta": 0.002, "alpha": 1.1}),
    "vogels_negative": ("vogels_sprekeler_synapse", {"tau": 31.0, "eta": 0.002, "alpha": 1.1, "Wmax": -2.0}),
}  # fmt: skip


def spikes(rng, rate, drive):
    return np.flatnonzero(rng.random(STEPS) < rate / 1000 * drive) + 2


def weights(model, parameters, pre_steps, post_steps):
    """The weight at each presynaptic spike."""
    nest.ResetKernel()
    nest.set(resolution=1.0, print_time=False)
    bound = parameters.get("Wmax", 2.0)
    tau = {} if model == "vogels_sprekeler_synapse" else {"tau_plus": 16.8}
    node = {"tau_minus": 31.0, "tau_minus_triplet": 125.0}
    pre, post = nest.Create("parrot_neuron", params=node), nest.Create("parrot_neuron", params=node)
    for neuron, steps in ((pre, pre_steps), (post, post_steps)):
        source = nest.Create("spike_generator", params={"spike_times": steps.astype(float)})
        nest.Connect(source, neuron, syn_spec={"delay": 1.0})
    recorder = nest.Create("weight_recorder")
    nest.CopyModel(model, "recorded", {"weight_recorder": recorder})
    synapse = {"synapse_model": "recorded", "weight": bound / 2, "delay": 1.0, "receptor_type": 1, "Wmax": bound}
    nest.Connect(pre, post, syn_spec=synapse | tau | parameters)
    nest.Simulate(STEPS + 10.0)
    return recorder.events["weights"]


if __name__ == "__main__":
    nest.set_verbosity("M_WARNING")
    rng = np.random.default_rng(7)
    drive = 1 + 0.9 * np.sin(np.arange(STEPS) / 80)  # rates that go up and down together
    pre, post = spikes(rng, 22, drive), spikes(rng, 18, drive)
    found = {f"w_{name}": weights(*case, pre, post) for name, case in CASES.items()}
    for name, w in found.items():
        assert len(w) == len(pre), (name, len(w), len(pre))
        print(name, len(w), w.min(), w.max(), w[-1])
    values = {f"p_{name}_{key}": value for name, (_, case) in CASES.items() for key, value in case.items()}
    path = Path(__file__).parent / "nest_plasticity.npz"
    np.savez_compressed(path, pre=pre, post=post, version=nest.__version__, **found, **values)
