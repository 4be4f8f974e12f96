// The Python binding of the engine (folds.cpp has that of the folds). Arrays in, arrays and tuples
// out; checks of meaning (finite, symmetric, positive) belong to the Python side, checks of shape are here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <limits>
#include <numeric>
#include <optional>
#include <thread>

#include "engine.hpp"
#include "folds_binding.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using unknot::Betti;
using unknot::Control;
using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const std::uint64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Lists = nb::ndarray<const std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Indptr = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

[[noreturn]] void bad(const std::string& line) { throw nb::value_error(line.c_str()); }

bool signals_pending(void*) {
  const nb::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;  // leaves the exception set; rethrown in guarded()
}

// Runs work(control) without the GIL and turns its exceptions into Python's.
template <class F>
void guarded(double time_budget_s, std::size_t memory_limit, F work) {
  Control control;
  control.budget_s = time_budget_s;
  control.memory_limit = memory_limit;
  control.poll = signals_pending;
  try {
    const nb::gil_scoped_release released;
    work(control);
  } catch (const unknot::Interrupted&) {
    if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
    throw nb::python_error();
  } catch (const unknot::BudgetExceeded& e) {
    PyErr_SetString(PyExc_TimeoutError, e.what());
    throw nb::python_error();
  } catch (const unknot::MemoryRefused& e) {
    PyErr_SetString(PyExc_MemoryError, e.what());
    throw nb::python_error();
  }
}

void check_dim(int max_dim) {
  if (max_dim < 0 || max_dim > 2)
    bad("max_dim=" + std::to_string(max_dim) + ": expected 0, 1 or 2; homology above b2 is not offered");
}

int check_size(std::size_t n) {
  if (n > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max() - 64))
    bad("n=" + std::to_string(n) + " points: expected fewer than 2^31; take a subsample");
  return static_cast<int>(n);
}

unknot::Points as_points(const Array& a) {
  const bool is_double = a.dtype() == nb::dtype<double>();
  if (a.ndim() != 2 || !(is_double || a.dtype() == nb::dtype<float>()))
    bad("points have " + std::to_string(a.ndim()) +
        " axes: expected a C-contiguous float32 or float64 array [n, d]; use numpy.ascontiguousarray");
  check_size(a.shape(0));
  return {a.data(), is_double, static_cast<std::int64_t>(a.shape(0)), check_size(a.shape(1))};
}

std::vector<unknot::Points> as_batch(const std::vector<Array>& clouds) {
  std::vector<unknot::Points> out;
  for (const Array& a : clouds) out.push_back(as_points(a));
  return out;
}

template <class T>
nb::object own(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner));
}

// n zeroed packed rows; calloc, so that pages are taken only when written.
struct NewRows {
  std::uint64_t* data;
  nb::object array;
};
NewRows new_rows(int n, std::size_t memory_limit) {
  const std::size_t words = (static_cast<std::size_t>(n) + 63) / 64, count = n * words;
  if (memory_limit && count * 8 > memory_limit) {
    PyErr_Format(PyExc_MemoryError,
                 "n=%d points need %zu MiB of packed rows, more than the limit of %zu MiB; raise the "
                 "limit, subsample, or use a sparse graph",
                 n, (count * 8) >> 20, memory_limit >> 20);
    throw nb::python_error();
  }
  void* p = std::calloc(count ? count : 1, 8);
  if (!p) throw std::bad_alloc();
  nb::capsule owner(p, [](void* q) noexcept { std::free(q); });
  auto* data = static_cast<std::uint64_t*>(p);
  return {data, nb::cast(nb::ndarray<nb::numpy, std::uint64_t, nb::ndim<2>>(
                    data, {static_cast<std::size_t>(n), words}, owner))};
}

nb::tuple to_tuple(const Betti& b, int max_dim) {
  if (max_dim == 0) return nb::make_tuple(b[0]);
  if (max_dim == 1) return nb::make_tuple(b[0], b[1]);
  return nb::make_tuple(b[0], b[1], b[2]);
}

nb::object rows_from_points(const Array& points, double radius, int threads, double time_budget_s,
                            std::size_t memory_limit) {
  const unknot::Points p = as_points(points);
  NewRows rows = new_rows(static_cast<int>(p.n), memory_limit);
  guarded(time_budget_s, memory_limit, [&](Control& control) {
    if (p.n == 0) return;
    unknot::rows_from_points(unknot::make_table(p, false, radius), radius, threads, control, rows.data);
  });
  return rows.array;
}

nb::tuple rows_from_distances(const Array& d, double radius, double share, int threads,
                              double time_budget_s, std::size_t memory_limit) {
  const bool is_double = d.dtype() == nb::dtype<double>();
  if (d.ndim() != 2 || d.shape(0) != d.shape(1) || !(is_double || d.dtype() == nb::dtype<float>()))
    bad("distances are not a square matrix of float32 or float64: expected a C-contiguous array "
        "[n, n]; see scipy.spatial.distance.squareform");
  const int n = check_size(d.shape(0));
  NewRows rows = new_rows(n, memory_limit);
  unknot::DistanceSurvey s;
  guarded(time_budget_s, memory_limit, [&](Control& control) {
    s = is_double ? unknot::rows_from_distances(static_cast<const double*>(d.data()), n, radius, share,
                                                threads, control, rows.data)
                  : unknot::rows_from_distances(static_cast<const float*>(d.data()), n, radius, share,
                                                threads, control, rows.data);
  });
  return nb::make_tuple(
      rows.array, nb::make_tuple(s.least, s.greatest, s.asymmetry, s.excess, s.diagonal, s.finite));
}

nb::tuple betti_rows(const Rows& rows, int max_dim, double time_budget_s, std::size_t memory_limit) {
  check_dim(max_dim);
  const int n = check_size(rows.shape(0));
  if (rows.shape(1) != (rows.shape(0) + 63) / 64)
    bad("rows have " + std::to_string(rows.shape(1)) + " words for " + std::to_string(n) +
        " points: expected " + std::to_string((n + 63) / 64) + "; pack 64 points a word");
  Betti betti{0, 0, 0};
  guarded(time_budget_s, memory_limit, [&](Control& control) {
    unknot::variant().betti_dense(rows.data(), nullptr, n, max_dim, control, betti.data());
  });
  return to_tuple(betti, max_dim);
}

int check_csr(const Indptr& indptr, const Indices& indices) {
  if (indptr.shape(0) < 1) bad("indptr is empty: expected n + 1 offsets");
  const int n = check_size(indptr.shape(0) - 1);
  const std::int64_t* p = indptr.data();
  if (p[0] != 0 || p[n] != static_cast<std::int64_t>(indices.shape(0)))
    bad("indptr runs from " + std::to_string(p[0]) + " to " + std::to_string(p[n]) +
        ": expected 0 to len(indices); pass a canonical CSR matrix");
  for (int v = 0; v < n; ++v) {
    if (p[v + 1] < p[v]) bad("indptr falls at row " + std::to_string(v) + ": expected rising offsets");
    for (std::int64_t t = p[v]; t < p[v + 1]; ++t) {
      const std::int32_t u = indices.data()[t];
      if (u < 0 || u >= n || u == v || (t > p[v] && u <= indices.data()[t - 1]))
        bad("row " + std::to_string(v) + " holds neighbour " + std::to_string(u) +
            ": expected rising numbers in [0, n), without the row's own; sort and remove the diagonal");
    }
  }
  return n;
}

nb::tuple betti_csr(const Indptr& indptr, const Indices& indices, int max_dim, double time_budget_s,
                    std::size_t memory_limit) {
  check_dim(max_dim);
  const int n = check_csr(indptr, indices);
  Betti betti{0, 0, 0};
  guarded(time_budget_s, memory_limit, [&](Control& control) {
    unknot::variant().betti_sparse(indptr.data(), indices.data(), n, max_dim, control, betti.data());
  });
  return to_tuple(betti, max_dim);
}

nb::list to_list(const std::vector<Betti>& all, int max_dim) {
  nb::list out;
  for (const Betti& b : all) out.append(to_tuple(b, max_dim));
  return out;
}

nb::list betti_batch_points(const std::vector<Array>& clouds, const std::vector<double>& radii,
                            int max_dim, int threads, double time_budget_s, std::size_t memory_limit) {
  check_dim(max_dim);
  if (radii.size() != clouds.size())
    bad(std::to_string(radii.size()) + " radii for " + std::to_string(clouds.size()) +
        " clouds: expected one each");
  const std::vector<unknot::Points> batch = as_batch(clouds);
  std::vector<Betti> out;
  guarded(time_budget_s, memory_limit, [&](Control& control) {
    // One cloud: the threads share its distances.
    if (batch.size() == 1)
      out.push_back(unknot::betti_points(batch[0], radii[0], max_dim, threads, control));
    else
      out = unknot::betti_batch(batch, radii, max_dim, threads, control);
  });
  return to_list(out, max_dim);
}

nb::list betti_batch_knn(const std::vector<Array>& clouds, int k, int hops, int max_dim, int threads,
                         double time_budget_s, std::size_t memory_limit) {
  check_dim(max_dim);
  const std::vector<unknot::Points> batch = as_batch(clouds);
  std::vector<Betti> out;
  guarded(time_budget_s, memory_limit, [&](Control& control) {
    out = unknot::betti_batch_knn(batch, k, hops, max_dim, threads, control);
  });
  return to_list(out, max_dim);
}

nb::tuple to_csr(unknot::Csr&& g) {
  return nb::make_tuple(own(std::move(g.indptr)), own(std::move(g.indices)));
}

nb::tuple knn_edges(const Array& points, int k, int threads, double time_budget_s) {
  const unknot::Points p = as_points(points);
  if (k < 1) bad("k=" + std::to_string(k) + ": expected at least 1");
  unknot::Csr g;
  guarded(time_budget_s, 0, [&](Control& control) { g = unknot::knn_graph(p, k, threads, control); });
  return to_csr(std::move(g));
}

// n lists of k; k below n, as nearest() wants it.
nb::object nearest(const Array& points, int k, int threads) {
  const unknot::Points p = as_points(points);
  if (k < 1 || k >= p.n) bad("k=" + std::to_string(k) + ": expected at least 1 and fewer than the points");
  std::vector<std::int32_t> near;
  guarded(0, 0, [&](Control& control) { near = unknot::nearest(p, k, threads, control); });
  return own(std::move(near)).attr("reshape")(p.n, k);
}

nb::list find_islands(const std::vector<Array>& clouds, int k, double z, int threads) {
  const std::vector<unknot::Points> batch = as_batch(clouds);
  for (const unknot::Points& p : batch)
    if (k < 2 || k >= p.n) bad("k=" + std::to_string(k) + ": expected at least 2 and fewer than the points");
  std::vector<unknot::Islands> found;
  guarded(0, 0, [&](Control& control) { found = unknot::find_islands(batch, k, z, threads, control); });
  nb::list out;
  for (unknot::Islands& one : found)
    out.append(nb::make_tuple(own(std::move(one.members)), own(std::move(one.prominences)), one.dimension));
  return out;
}

nb::object spanning_tree(const Array& points, const Lists& near, int threads) {
  const unknot::Points p = as_points(points);
  const int k = check_size(near.shape(1));
  if (static_cast<std::int64_t>(near.shape(0)) != p.n || k < 1)
    bad("near has " + std::to_string(near.shape(0)) + " lists: expected one a point, of at least one number");
  for (std::size_t i = 0; i < near.size(); ++i)
    if (near.data()[i] < 0 || near.data()[i] >= p.n)
      bad("near holds " + std::to_string(near.data()[i]) + ": expected numbers in [0, n)");
  std::vector<std::int32_t> edges, all(p.n);
  std::iota(all.begin(), all.end(), 0);
  guarded(0, 0, [&](Control& control) {
    const unknot::Lists lists = unknot::lists_of(p, near.data(), k, threads, control);
    if (p.n > 1 && unknot::squares_fit(lists)) edges = unknot::spanning_tree(lists, all, threads, control);
  });
  const std::size_t count = edges.size() / 2;
  return own(std::move(edges)).attr("reshape")(count, 2);
}

nb::list untangle(const Array& points, const Lists& parts, int k, double z, int nearest, bool tree,
                  int threads) {
  const unknot::Points p = as_points(points);
  const int count = check_size(parts.shape(0)), size = check_size(parts.shape(1));
  const std::int64_t least = count ? std::min<std::int64_t>(p.n, size) : p.n;
  if (k < 2 || nearest < 1 || k >= least || nearest >= least)
    bad("k=" + std::to_string(k) + ", nearest=" + std::to_string(nearest) +
        ": expected at least 2 and 1, and fewer than the points of a part");
  for (std::size_t at = 0; at < parts.size(); ++at)
    if (parts.data()[at] < (at % size ? parts.data()[at - 1] + 1 : 0) || parts.data()[at] >= p.n)
      bad("parts hold " + std::to_string(parts.data()[at]) + ": expected rising numbers in [0, n)");
  std::vector<unknot::Untangled> found;
  guarded(0, 0, [&](Control& control) {
    found = unknot::untangle(p, {k, z, nearest, tree}, parts.data(), count, size, threads, control);
  });
  nb::list out;
  for (unknot::Untangled& one : found) {
    const std::size_t edges = one.edges.size() / 2, m = one.islands.members.size();
    out.append(nb::make_tuple(
        nb::make_tuple(own(std::move(one.islands.members)), own(std::move(one.islands.prominences)),
                       one.islands.dimension),
        own(std::move(one.edges)).attr("reshape")(edges, 2),
        own(std::move(one.near)).attr("reshape")(m, nearest)));
  }
  return out;
}

void check_hops(int hops) {
  if (hops < 0) bad("hops=" + std::to_string(hops) + ": expected at least 0");
}

nb::object hop_rows(const Indptr& indptr, const Indices& indices, int hops, int threads,
                    double time_budget_s, std::size_t memory_limit) {
  check_hops(hops);
  const int n = check_csr(indptr, indices);
  NewRows rows = new_rows(n, memory_limit);
  guarded(time_budget_s, memory_limit, [&](Control& control) {
    unknot::hop_rows(indptr.data(), indices.data(), n, hops, threads, control, rows.data);
  });
  return rows.array;
}

nb::tuple hop_csr(const Indptr& indptr, const Indices& indices, int hops, int threads,
                  double time_budget_s) {
  check_hops(hops);
  const int n = check_csr(indptr, indices);
  unknot::Csr g;
  guarded(time_budget_s, 0, [&](Control& control) {
    g = unknot::hop_graph(indptr.data(), indices.data(), n, hops, threads, control);
  });
  return to_csr(std::move(g));
}

nb::dict engine_info() {
  nb::dict d;
  d["variant"] = unknot::variant().name;
  nb::list all;
  for (const unknot::Variant* v : unknot::variants()) all.append(v->name);
  d["variants"] = all;
  d["threads"] = std::thread::hardware_concurrency();
#if defined(__clang__)
  d["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
  d["compiler"] = "gcc " __VERSION__;
#elif defined(_MSC_VER)
  d["compiler"] = "msvc " + std::to_string(_MSC_VER);
#endif
  return d;
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Betti numbers of flag complexes over GF(2), on packed neighbour graphs.";
  m.def("rows_from_points", &rows_from_points, "points"_a, "radius"_a, nb::kw_only(), "threads"_a = 1,
        "time_budget_s"_a = 0.0, "memory_limit"_a = 0);
  m.def("rows_from_distances", &rows_from_distances, "distances"_a, "radius"_a, "share"_a = 0.0,
        nb::kw_only(), "threads"_a = 1, "time_budget_s"_a = 0.0, "memory_limit"_a = 0);
  m.def("betti_rows", &betti_rows, "rows"_a, "max_dim"_a = 1, nb::kw_only(), "time_budget_s"_a = 0.0,
        "memory_limit"_a = 0);
  m.def("betti_csr", &betti_csr, "indptr"_a, "indices"_a, "max_dim"_a = 1, nb::kw_only(),
        "time_budget_s"_a = 0.0, "memory_limit"_a = 0);
  m.def("betti_batch_points", &betti_batch_points, "clouds"_a, "radii"_a, "max_dim"_a = 1,
        nb::kw_only(), "threads"_a = 0, "time_budget_s"_a = 0.0, "memory_limit"_a = 0);
  m.def("betti_batch_knn", &betti_batch_knn, "clouds"_a, "k"_a, "hops"_a, "max_dim"_a = 1,
        nb::kw_only(), "threads"_a = 0, "time_budget_s"_a = 0.0, "memory_limit"_a = 0);
  m.def("knn_edges", &knn_edges, "points"_a, "k"_a, nb::kw_only(), "threads"_a = 1,
        "time_budget_s"_a = 0.0);
  m.def("nearest", &nearest, "points"_a, "k"_a, nb::kw_only(), "threads"_a = 1);
  m.def("find_islands", &find_islands, "clouds"_a, "k"_a, "z"_a, nb::kw_only(), "threads"_a = 0);
  m.def("spanning_tree", &spanning_tree, "points"_a, "near"_a, nb::kw_only(), "threads"_a = 1);
  m.def("untangle", &untangle, "points"_a, "parts"_a, "k"_a, "z"_a, nb::kw_only(), "nearest"_a, "tree"_a,
        "threads"_a = 1);
  m.def("hop_rows", &hop_rows, "indptr"_a, "indices"_a, "hops"_a, nb::kw_only(), "threads"_a = 1,
        "time_budget_s"_a = 0.0, "memory_limit"_a = 0);
  m.def("hop_csr", &hop_csr, "indptr"_a, "indices"_a, "hops"_a, nb::kw_only(), "threads"_a = 1,
        "time_budget_s"_a = 0.0);
  bind_folds(m);
  m.def("engine_info", &engine_info);
  m.def("use_variant", [](const std::string& name) {
    if (!unknot::use_variant(name.c_str()))
      bad("variant '" + name + "' does not run here: expected one of engine_info()['variants']");
  }, "name"_a);
}
