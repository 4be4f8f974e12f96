#include "engine.hpp"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

namespace unknot {

// ---- stopping --------------------------------------------------------------------------------

void Control::check_now() {
  if (stop && stop->load(std::memory_order_relaxed)) throw Interrupted();
  const auto now = Clock::now();
  if (budget_s > 0 && std::chrono::duration<double>(now - start).count() > budget_s)
    throw BudgetExceeded("time budget of " + std::to_string(budget_s) +
                         " s used up; give a larger one, fewer points, a smaller scale or a lower max_dim");
  if (poll && now >= next_poll) {
    next_poll = now + std::chrono::milliseconds(50);
    if (poll(poll_context)) throw Interrupted();
  }
}

void Control::need(std::size_t bytes, const char* what) const {
  if (memory_limit && bytes > memory_limit)
    throw MemoryRefused("needs " + std::to_string(bytes >> 20) + " MiB for " + what +
                        ", more than the limit of " + std::to_string(memory_limit >> 20) +
                        " MiB; raise the limit, or take fewer points, a smaller scale or a lower max_dim");
}

void Control::need_numbers(std::int64_t count, const char* what) const {
  if (count > INT32_MAX - 8)
    throw MemoryRefused(std::to_string(count) + " " + what +
                        " are left in the core, expected fewer than 2^31; take fewer points, a smaller "
                        "scale or a lower max_dim");
}

// ---- instruction sets ------------------------------------------------------------------------

std::vector<const Variant*> variants() {
  std::vector<const Variant*> out{&baseline_variant};
#if defined(UNKNOT_HAS_X86_64_V3)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("popcnt"))
    out.push_back(&x86_64_v3_variant);
#endif
#if defined(UNKNOT_HAS_X86_64_V4)
  if (out.size() == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd"))
    out.push_back(&x86_64_v4_variant);
#endif
  return out;
}

namespace {
std::atomic<const Variant*> chosen{nullptr};
}

const Variant& variant() {
  const Variant* v = chosen.load();
  if (!v) chosen.store(v = variants().back());
  return *v;
}

bool use_variant(const char* name) {
  for (const Variant* v : variants())
    if (std::strcmp(v->name, name) == 0) {
      chosen.store(v);
      return true;
    }
  return false;
}

// ---- threads ---------------------------------------------------------------------------------

void parallel(std::int64_t count, int threads, Control& control,
              const std::function<void(std::int64_t, Control&)>& work) {
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  threads = static_cast<int>(std::min<std::int64_t>(threads, count));
  if (threads <= 1) {
    for (std::int64_t i = 0; i < count; ++i) {
      control.check();
      work(i, control);
    }
    return;
  }
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable finished;
  std::exception_ptr failure;
  int running = threads;
  auto fail = [&](std::exception_ptr e) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!failure) failure = e;
    stop = true;
  };
  auto body = [&] {
    Control own = control;
    own.stop = &stop;
    own.poll = nullptr;
    try {
      for (std::int64_t i; !stop && (i = next++) < count;) {
        own.check();
        work(i, own);
      }
    } catch (...) {
      fail(std::current_exception());
    }
    const std::lock_guard<std::mutex> lock(mutex);
    --running;
    finished.notify_one();
  };
  std::vector<std::thread> pool;
  try {
    for (int t = 0; t < threads; ++t) pool.emplace_back(body);
  } catch (...) {  // the system has no more threads: go on with those there are
    const std::lock_guard<std::mutex> lock(mutex);
    running -= threads - static_cast<int>(pool.size());
    if (pool.empty()) failure = std::current_exception();
  }
  std::unique_lock<std::mutex> lock(mutex);
  while (running > 0) {
    finished.wait_for(lock, std::chrono::milliseconds(50));
    if (running == 0 || stop) continue;
    lock.unlock();
    try {
      control.check_now();
    } catch (...) {
      fail(std::current_exception());
    }
    lock.lock();
  }
  lock.unlock();
  for (std::thread& t : pool) t.join();
  if (failure) std::rethrow_exception(failure);
}

// ---- neighbour graphs ------------------------------------------------------------------------

void rows_from_points(const PointTable& table, double radius, int threads, Control& control,
                      std::uint64_t* rows) {
  const double limit = squared_threshold(radius * table.unit);
  const Variant& v = variant();
  parallel(table.padded / 64, threads, control, [&](std::int64_t tile_row, Control&) {
    v.point_tiles(table, limit, rows, static_cast<int>(tile_row));
  });
}

namespace {
// tiles(tile_row, survey) for each row of tiles; all their surveys in one.
template <class Tiles>
DistanceSurvey survey_tiles(int n, int threads, Control& control, Tiles tiles) {
  std::vector<DistanceSurvey> parts(static_cast<std::size_t>((n + 127) / 128));
  parallel(static_cast<std::int64_t>(parts.size()), threads, control,
           [&](std::int64_t i, Control&) { tiles(static_cast<int>(2 * i), parts[i]); });
  DistanceSurvey all;
  for (const DistanceSurvey& part : parts) {
    all.least = std::min(all.least, part.least);
    all.greatest = std::max(all.greatest, part.greatest);
    all.asymmetry = std::max(all.asymmetry, part.asymmetry);
    all.excess = std::max(all.excess, part.excess);
    all.diagonal = std::max(all.diagonal, part.diagonal);
    all.finite = all.finite && part.finite;
  }
  return all;
}
}  // namespace

template <>
DistanceSurvey rows_from_distances(const double* distances, int n, double radius, double share,
                                   int threads, Control& control, std::uint64_t* rows) {
  return survey_tiles(n, threads, control, [&](int tile_row, DistanceSurvey& part) {
    variant().distance_tiles_double(distances, n, radius, share, rows, tile_row, part);
  });
}

template <>
DistanceSurvey rows_from_distances(const float* distances, int n, double radius, double share,
                                   int threads, Control& control, std::uint64_t* rows) {
  float limit = static_cast<float>(radius);  // the greatest float <= radius decides the same pairs
  if (static_cast<double>(limit) > radius) limit = std::nextafterf(limit, -HUGE_VALF);
  return survey_tiles(n, threads, control, [&](int tile_row, DistanceSurvey& part) {
    variant().distance_tiles_float(distances, n, limit, static_cast<float>(share), rows, tile_row, part);
  });
}

// ---- Betti numbers of points -----------------------------------------------------------------

namespace {
constexpr int kSortFrom = 512;       // places follow space from here on
constexpr int kSortDimensions = 16;  // above, boxes no longer separate anything

std::size_t packed_bytes(std::int64_t n) {
  return static_cast<std::size_t>(n) * static_cast<std::size_t>((n + 63) / 64) * 8;
}
}  // namespace

Betti betti_points(Points points, double radius, int max_dim, int threads, Control& control) {
  Betti betti{0, 0, 0};
  if (points.n == 0) return betti;
  control.need(packed_bytes(points.n), "the packed neighbour graph");
  const bool sorted = points.n >= kSortFrom && points.d <= kSortDimensions;
  std::vector<std::uint64_t> rows(packed_bytes(points.n) / 8, 0);
  const int n = static_cast<int>(points.n);
  {  // the table goes before homology takes memory
    const PointTable table = make_table(points, sorted, radius);
    rows_from_points(table, radius, threads, control, rows.data());
  }
  variant().betti_dense(rows.data(), rows.data(), n, max_dim, control, betti.data());
  return betti;
}

std::vector<Betti> betti_batch(const std::vector<Points>& clouds, const std::vector<double>& radii,
                               int max_dim, int threads, Control& control) {
  std::vector<Betti> out(clouds.size());
  parallel(static_cast<std::int64_t>(clouds.size()), threads, control,
           [&](std::int64_t i, Control& own) {
             out[i] = betti_points(clouds[i], radii[i], max_dim, 1, own);
           });
  return out;
}

std::vector<Betti> betti_batch_knn(const std::vector<Points>& clouds, int k, int hops, int max_dim,
                                   int threads, Control& control) {
  std::vector<Betti> out(clouds.size(), Betti{0, 0, 0});
  const bool alone = clouds.size() == 1;  // then the threads go to the one cloud
  parallel(static_cast<std::int64_t>(clouds.size()), alone ? 1 : threads, control,
           [&](std::int64_t i, Control& own) {
             const int n = static_cast<int>(clouds[i].n), inner = alone ? threads : 1;
             const Csr g = knn_graph(clouds[i], k, inner, own);
             if (n <= 8192) {
               own.need(packed_bytes(n), "the packed neighbour graph");
               std::vector<std::uint64_t> rows(packed_bytes(n) / 8, 0);
               hop_rows(g.indptr.data(), g.indices.data(), n, hops, inner, own, rows.data());
               variant().betti_dense(rows.data(), rows.data(), n, max_dim, own, out[i].data());
             } else {
               const Csr far = hops > 1 ? hop_graph(g.indptr.data(), g.indices.data(), n, hops,
                                                    inner, own)
                                        : g;
               variant().betti_sparse(far.indptr.data(), far.indices.data(), n, max_dim, own,
                                      out[i].data());
             }
           });
  return out;
}

}  // namespace unknot
