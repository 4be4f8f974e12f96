// The binding of the folding activations. Tensors come as addresses: the Python side has checked that
// they are float32, dense, of one layout and n elements long, and keeps them alive.
#include "folds_binding.hpp"

#include <algorithm>
#include <thread>
#include <vector>

#include "engine.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Address = std::uintptr_t;

const float* in(Address a) { return reinterpret_cast<const float*>(a); }
float* out(Address a) { return reinterpret_cast<float*>(a); }

// work(first, count) over all elements. Starting a thread takes about as long as 100,000 elements.
template <class F>
void over(std::int64_t n, int threads, F work) {
  constexpr std::int64_t kSmall = 1 << 14, kWorth = 1 << 18;
  if (n < kSmall) return work(0, n);  // releasing the GIL would cost more
  const nb::gil_scoped_release released;
  const std::int64_t parts = std::min<std::int64_t>(threads, n / kWorth);
  if (parts < 2) return work(0, n);
  const std::int64_t each = (n + parts - 1) / parts;
  std::vector<std::jthread> others;
  for (std::int64_t p = 1; p < parts; ++p)
    others.emplace_back([=] { work(p * each, std::min(each, n - p * each)); });
  work(0, each);
}

void zfold(Address x, Address y, std::int64_t n, float slope, float turn, int threads) {
  const auto f = unknot::variant().zfold;
  over(n, threads, [=](std::int64_t i, std::int64_t m) { f(in(x) + i, out(y) + i, m, slope, turn); });
}

void zfold_backward(Address grad, Address y, Address to, std::int64_t n, float slope, int threads) {
  const auto f = unknot::variant().zfold_backward;
  over(n, threads,
       [=](std::int64_t i, std::int64_t m) { f(in(grad) + i, in(y) + i, out(to) + i, m, slope); });
}

void qfold(Address x, Address y, std::int64_t n, float frequency, int threads) {
  const auto f = unknot::variant().qfold;
  over(n, threads, [=](std::int64_t i, std::int64_t m) { f(in(x) + i, out(y) + i, m, frequency); });
}

void qfold_backward(Address grad, Address y, Address to, std::int64_t n, float frequency, int threads) {
  const auto f = unknot::variant().qfold_backward;
  over(n, threads,
       [=](std::int64_t i, std::int64_t m) { f(in(grad) + i, in(y) + i, out(to) + i, m, frequency); });
}

}  // namespace

void bind_folds(nb::module_& m) {
  m.def("zfold", &zfold, "x"_a, "y"_a, "n"_a, "slope"_a, "turn"_a, "threads"_a);
  m.def("zfold_backward", &zfold_backward, "grad"_a, "y"_a, "out"_a, "n"_a, "slope"_a, "threads"_a);
  m.def("qfold", &qfold, "x"_a, "y"_a, "n"_a, "frequency"_a, "threads"_a);
  m.def("qfold_backward", &qfold_backward, "grad"_a, "y"_a, "out"_a, "n"_a, "frequency"_a, "threads"_a);
}
