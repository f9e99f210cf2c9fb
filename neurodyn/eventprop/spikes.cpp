// Spikes of LIF neurons with exponential synapses in continuous time, one neuron of one sample after the other, or those
// that drive each other together; the equations and the order of the operations are those of events_in_time.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <queue>
#include <vector>

namespace {

template <typename real>
struct Neuron {
    real tau, tau_s, R, height, jump, rate, slow, gain;

    Neuron(const real* values, int64_t step)
        : tau(values[0]), tau_s(values[step]), R(values[2 * step]), height(values[3 * step]), jump(values[4 * step]),
          rate(1 / tau - 1 / tau_s), slow(std::max(tau, tau_s)), gain(R / tau) {}

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

// weight (neurons, inputs); at, source and size (batch, lists, events), in ascending order, one list for all neurons or
// one for each; five values for each neuron; found (batch, neurons, room), filled with infinity. Returns the largest
// number of spikes, also where there is no room, and -1 if a neuron has more than `limit`.
template <typename real>
int64_t simulate(const real* weight, const real* at, const int64_t* source, const real* size, const real* values,
                 real until, int64_t batch, int64_t lists, int64_t neurons, int64_t inputs, int64_t events,
                 int64_t limit, int64_t room, real* found) {
    int64_t most = 0;
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t n = 0; n < neurons; n++) {
            const Neuron<real> of(values + n, neurons);
            const int64_t first = (b * lists + (lists > 1 ? n : 0)) * events;
            real V = 0, g = 0, now = 0;
            int64_t count = 0;
            for (int64_t k = 0; k <= events; k++) {
                const bool comes = k < events && at[first + k] <= until;
                const real end = comes ? at[first + k] : until;
                real left = end - now;
                for (real s; std::isfinite(s = of.crossing(V, g, left)); count++) {
                    if (count == limit) return -1;
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
                g += weight[n * inputs + source[first + k]] * size[first + k];
            }
            most = std::max(most, count);
        }
    }
    return most;
}

// What comes from a source at a time, to one neuron or, with -1, to all of them.
template <typename real>
struct Arrival {
    real at;
    int64_t source, target;
    real size;
    bool operator<(const Arrival& other) const { return at > other.at; }  // the queue gives the greatest first
};

// Neurons that drive each other: those from `inputs` on of the sources are the neurons themselves. weight and delay
// (neurons, inputs + neurons); times and size (batch, inputs, K). Returns as `simulate`, and -1 if a neuron has more
// than `limit` spikes.
template <typename real>
int64_t recurrent(const real* weight, const real* delay, const real* times, const real* size, const real* values,
                  real until, int64_t batch, int64_t neurons, int64_t inputs, int64_t K, int64_t limit, int64_t room,
                  real* found) {
    constexpr real never = std::numeric_limits<real>::infinity();
    const int64_t sources = inputs + neurons;
    int64_t most = 0;
    std::vector<Neuron<real>> of;
    for (int64_t n = 0; n < neurons; n++) of.emplace_back(values + n, neurons);
    std::vector<bool> same(sources, true);  // whether a source reaches all neurons at the same time
    for (int64_t i = 0; i < sources; i++)
        for (int64_t n = 1; n < neurons; n++) same[i] = same[i] && delay[n * sources + i] == delay[i];
    for (int64_t b = 0; b < batch; b++) {
        std::priority_queue<Arrival<real>> coming;
        std::vector<real> V(neurons), g(neurons), since(neurons), next(neurons, never);
        std::vector<int64_t> count(neurons);
        const auto send = [&](real t, int64_t source, real amount) {
            if (same[source]) {
                coming.push({t + delay[source], source, -1, amount});
                return;
            }
            for (int64_t n = 0; n < neurons; n++)
                if (weight[n * sources + source] != 0)
                    coming.push({t + delay[n * sources + source], source, n, amount});
        };
        const auto predict = [&](int64_t n) { next[n] = since[n] + of[n].crossing(V[n], g[n], until - since[n]); };
        const auto receive = [&](const Arrival<real>& a, int64_t n) {
            const real s = a.at - since[n];
            V[n] = of[n].potential(V[n], g[n], s);
            g[n] = g[n] * std::exp(-s / of[n].tau_s) + weight[n * sources + a.source] * a.size;
            since[n] = a.at;
            predict(n);
        };
        for (int64_t i = 0; i < inputs; i++)
            for (int64_t k = 0; k < K; k++)
                if (const int64_t p = (b * inputs + i) * K + k; times[p] <= until) send(times[p], i, size[p]);
        while (true) {
            const int64_t n = std::min_element(next.begin(), next.end()) - next.begin();
            const real spike = neurons ? next[n] : never, arrival = coming.empty() ? never : coming.top().at;
            if (!(std::min(spike, arrival) <= until)) break;
            if (spike <= arrival) {
                if (count[n] < room) found[(b * neurons + n) * room + count[n]] = spike;
                if (++count[n] > limit) return -1;
                V[n] = of[n].height - of[n].jump;
                g[n] *= std::exp(-(spike - since[n]) / of[n].tau_s);
                since[n] = spike;
                predict(n);
                send(spike, inputs + n, 1);
                continue;
            }
            const Arrival<real> a = coming.top();
            coming.pop();
            if (a.target >= 0)
                receive(a, a.target);
            else
                for (int64_t m = 0; m < neurons; m++) receive(a, m);
        }
        for (const int64_t c : count) most = std::max(most, c);
    }
    return most;
}

}  // namespace

#define SIMULATE(name, real)                                                                                       \
    extern "C" int64_t name(const real* weight, const real* at, const int64_t* source, const real* size,          \
                            const real* values, double until, int64_t batch, int64_t lists, int64_t neurons,      \
                            int64_t inputs, int64_t events, int64_t limit, int64_t room, real* found) {            \
        return simulate<real>(weight, at, source, size, values, real(until), batch, lists, neurons, inputs,       \
                              events, limit, room, found);                                                         \
    }

#define RECURRENT(name, real)                                                                                      \
    extern "C" int64_t name(const real* weight, const real* delay, const real* times, const real* size,           \
                            const real* values, double until, int64_t batch, int64_t neurons, int64_t inputs,     \
                            int64_t K, int64_t limit, int64_t room, real* found) {                                 \
        return recurrent<real>(weight, delay, times, size, values, real(until), batch, neurons, inputs, K, limit, \
                               room, found);                                                                       \
    }

SIMULATE(spikes_float32, float)
SIMULATE(spikes_float64, double)
RECURRENT(recurrent_float32, float)
RECURRENT(recurrent_float64, double)
