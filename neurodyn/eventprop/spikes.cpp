// Spikes of LIF neurons with exponential synapses in continuous time, one neuron of one sample after the other; the
// equations and the order of the operations are those of events_in_time.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace {

template <typename real>
struct Neuron {
    real tau, tau_s, R, height, jump, rate, slow, gain;

    real response(real s) const {
        const real z = s * std::abs(rate);
        return gain * s * std::exp(-s / slow) * (z > 0 ? -std::expm1(-z) / z : real(1));
    }

    real potential(real V, real g, real s) const { return V * std::exp(-s / tau) + g * response(s); }

    // When V reaches the threshold within the time that is left, else infinity.
    real crossing(real V, real g, real left) const {
        constexpr real never = std::numeric_limits<real>::infinity();
        const real drive = R * g;
        if (!(drive > V && V < height)) return never;
        // V rises to one peak, and is concave up to there, so that Newton's method from the left comes from the left.
        const real share = 1 - V / drive;
        real peak = std::abs(rate) * tau > real(1e-9)
                        ? std::log1p(std::max(share * rate * tau_s, real(-1))) / rate
                        : tau * share;
        if (std::isnan(peak)) peak = 0;
        const real end = std::max(std::min(peak, left), real(0));
        if (!(potential(V, g, end) >= height)) return never;
        real s = 0;
        for (int i = 0; i < 60; i++) {
            const real value = potential(V, g, s), slope = (drive * std::exp(-s / tau_s) - value) / tau;
            if (slope > 0) s = std::min(std::max(s + (height - value) / slope, real(0)), end);
            if (std::abs(height - value) <= 8 * std::numeric_limits<real>::epsilon() * height) break;
        }
        return s;
    }
};

// weight (neurons, inputs); at and source (batch, events), in ascending order; five values for each neuron; found
// (batch, neurons, room), filled with infinity. Returns the largest number of spikes, also where there is no room.
template <typename real>
int64_t simulate(const real* weight, const real* at, const int64_t* source, const real* values, real until,
                 int64_t batch, int64_t neurons, int64_t inputs, int64_t events, int64_t room, real* found) {
    int64_t most = 0;
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t n = 0; n < neurons; n++) {
            Neuron<real> of{values[n], values[neurons + n], values[2 * neurons + n], values[3 * neurons + n],
                            values[4 * neurons + n]};
            of.rate = 1 / of.tau - 1 / of.tau_s;
            of.slow = std::max(of.tau, of.tau_s);
            of.gain = of.R / of.tau;
            real V = 0, g = 0, now = 0;
            int64_t count = 0;
            for (int64_t k = 0; k <= events; k++) {
                const bool comes = k < events && at[b * events + k] <= until;
                const real end = comes ? at[b * events + k] : until;
                real left = end - now;
                for (real s; std::isfinite(s = of.crossing(V, g, left)); count++) {
                    now += s;
                    left -= s;
                    if (count < room) found[(b * neurons + n) * room + count] = now;
                    V = of.height - of.jump;
                    g *= std::exp(-s / of.tau_s);
                }
                V = of.potential(V, g, left);
                g *= std::exp(-left / of.tau_s);
                now = end;
                if (!comes) break;
                g += weight[n * inputs + source[b * events + k]];
            }
            most = std::max(most, count);
        }
    }
    return most;
}

}  // namespace

#define SIMULATE(name, real)                                                                                       \
    extern "C" int64_t name(const real* weight, const real* at, const int64_t* source, const real* values,        \
                            double until, int64_t batch, int64_t neurons, int64_t inputs, int64_t events,         \
                            int64_t room, real* found) {                                                           \
        return simulate<real>(weight, at, source, values, real(until), batch, neurons, inputs, events, room, found); \
    }

SIMULATE(spikes_float32, float)
SIMULATE(spikes_float64, double)
