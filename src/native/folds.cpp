// The binding of the folding activations. Tensors come as addresses: the Python side has checked that
// they are float32, dense, of one layout and n elements long, and keeps them alive.
#include "folds_binding.hpp"

#include <algorithm>
#if defined(__linux__)
#include <dlfcn.h>
#endif

#include "engine.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Address = std::uintptr_t;

const float* in(Address a) { return reinterpret_cast<const float*>(a); }
float* out(Address a) { return reinterpret_cast<float*>(a); }

// The OpenMP runtime that torch itself uses. Its threads are there already, and after each of torch's
// operations they wait for the next one on a core of their own: threads of ours would have to share it.
// The three functions are stable: every OpenMP program that GCC has compiled calls them.
struct Pool {
  void (*parallel)(void (*)(void*), void*, unsigned threads, unsigned flags) = nullptr;
  int (*thread)() = nullptr;
  int (*threads)() = nullptr;

  Pool() {
#if defined(__linux__)
    void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    if (torch == nullptr) return;
    thread = reinterpret_cast<int (*)()>(dlsym(torch, "omp_get_thread_num"));
    threads = reinterpret_cast<int (*)()>(dlsym(torch, "omp_get_num_threads"));
    if (thread != nullptr && threads != nullptr)
      parallel = reinterpret_cast<decltype(parallel)>(dlsym(torch, "GOMP_parallel"));
#endif
  }
};

// work(first, count) over all elements; in one thread where torch's are not within reach.
template <class F>
void over(std::int64_t n, int threads, F work) {
  constexpr std::int64_t kSmall = 1 << 14;
  constexpr std::int64_t kWorth = 1 << 15;  // elements a thread, as in torch
  constexpr std::int64_t kWhole = 512;      // of folds.hpp: the same blocks on any number of threads
  if (n < kSmall) return work(0, n);  // releasing the GIL would cost more
  const nb::gil_scoped_release released;
  static const Pool pool;
  const std::int64_t parts = std::min<std::int64_t>(threads, (n + kWorth - 1) / kWorth);
  if (parts < 2 || pool.parallel == nullptr) return work(0, n);
  struct Job {
    F& work;
    std::int64_t n, parts, each;
  } job{work, n, parts, ((n + parts - 1) / parts + kWhole - 1) / kWhole * kWhole};
  const auto share = [](void* data) {
    const Job& job = *static_cast<const Job*>(data);
    // Within another parallel region the runtime gives fewer threads than were asked for.
    for (std::int64_t p = pool.thread(); p < job.parts; p += pool.threads())
      if (p * job.each < job.n) job.work(p * job.each, std::min(job.each, job.n - p * job.each));
  };
  pool.parallel(share, &job, static_cast<unsigned>(parts), 0);
}

struct Fold {
  virtual ~Fold() = default;
  virtual void forward(const float* x, float* y, std::int64_t n) const = 0;
  virtual void backward(const float* grad, const float* y, float* to, std::int64_t n) const = 0;
};

struct ZFold final : Fold {
  float slope, turn;
  ZFold(float slope, float turn) : slope(slope), turn(turn) {}
  void forward(const float* x, float* y, std::int64_t n) const override {
    unknot::variant().zfold(x, y, n, slope, turn);
  }
  void backward(const float* grad, const float* y, float* to, std::int64_t n) const override {
    unknot::variant().zfold_backward(grad, y, to, n, slope);
  }
};

struct QFold final : Fold {
  float frequency, height;
  QFold(float frequency, float height) : frequency(frequency), height(height) {}
  void forward(const float* x, float* y, std::int64_t n) const override {
    unknot::variant().qfold(x, y, n, frequency, height);
  }
  void backward(const float* grad, const float* y, float* to, std::int64_t n) const override {
    unknot::variant().qfold_backward(grad, y, to, n, frequency, height);
  }
};

void forward(const Fold& fold, Address x, Address y, std::int64_t n, int threads) {
  over(n, threads, [&](std::int64_t i, std::int64_t m) { fold.forward(in(x) + i, out(y) + i, m); });
}

void backward(const Fold& fold, Address grad, Address y, Address to, std::int64_t n, int threads) {
  over(n, threads,
       [&](std::int64_t i, std::int64_t m) { fold.backward(in(grad) + i, in(y) + i, out(to) + i, m); });
}

}  // namespace

void bind_folds(nb::module_& m) {
  // torch keeps the classes of its autograd functions until the end, and these keep their folds.
  nb::set_leak_warnings(false);
  nb::class_<Fold>(m, "Fold")
      .def("forward", &forward, "x"_a, "y"_a, "n"_a, "threads"_a)
      .def("backward", &backward, "grad"_a, "y"_a, "out"_a, "n"_a, "threads"_a);
  nb::class_<ZFold, Fold>(m, "ZFold").def(nb::init<float, float>(), "slope"_a, "turn"_a);
  nb::class_<QFold, Fold>(m, "QFold").def(nb::init<float, float>(), "frequency"_a, "height"_a);
}
