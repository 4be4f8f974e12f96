// The Python module unknot._native: checks shapes, owns no algorithm. Values (radius, k, finite points) are
// checked by unknot/graph.py, the only caller.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <stdexcept>

#include "neighbors.hpp"

namespace nb = nanobind;

namespace {

template <typename Scalar>
using Matrix = nb::ndarray<const Scalar, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <typename Scalar>
using NumpyMatrix = nb::ndarray<nb::numpy, Scalar, nb::ndim<2>>;

// A new numpy array [rows, columns], uninitialised.
template <typename Scalar>
NumpyMatrix<Scalar> new_matrix(std::size_t rows, std::size_t columns) {
  auto data = std::make_unique_for_overwrite<Scalar[]>(rows * columns);
  Scalar* raw = data.get();
  nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<Scalar*>(p); });
  data.release();
  return NumpyMatrix<Scalar>(raw, {rows, columns}, owner);
}

template <typename Real>
NumpyMatrix<std::uint64_t> rows_from_points(Matrix<Real> points, double radius) {
  const std::size_t n = points.shape(0);
  auto rows = new_matrix<std::uint64_t>(n, unknot::words_for(n));
  nb::gil_scoped_release release;
  unknot::rows_from_points(points.data(), n, points.shape(1), radius, rows.data());
  return rows;
}

template <typename Real>
NumpyMatrix<std::uint64_t> rows_from_distances(Matrix<Real> distances, double radius) {
  const std::size_t n = distances.shape(0);
  if (distances.shape(1) != n) throw std::invalid_argument("distances must be square");
  auto rows = new_matrix<std::uint64_t>(n, unknot::words_for(n));
  nb::gil_scoped_release release;
  unknot::rows_from_distances(distances.data(), n, radius, rows.data());
  return rows;
}

template <typename Real>
NumpyMatrix<std::int64_t> nearest_neighbors(Matrix<Real> points, std::size_t k) {
  const std::size_t n = points.shape(0);
  if (k < 1 || k >= n) throw std::invalid_argument("k must be in [1, n)");
  auto nearest = new_matrix<std::int64_t>(n, k);
  nb::gil_scoped_release release;
  unknot::nearest_neighbors(points.data(), n, points.shape(1), k, nearest.data());
  return nearest;
}

NumpyMatrix<std::uint64_t> expand_hops(Matrix<std::uint64_t> rows, std::size_t hops) {
  const std::size_t n = rows.shape(0);
  if (rows.shape(1) != unknot::words_for(n)) throw std::invalid_argument("rows must be [n, ceil(n / 64)]");
  auto out = new_matrix<std::uint64_t>(n, rows.shape(1));
  nb::gil_scoped_release release;
  unknot::expand_hops(rows.data(), n, hops, out.data());
  return out;
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Packed-bit neighbour graphs of point clouds.";
  m.def("rows_from_points", &rows_from_points<float>, nb::arg("points"), nb::arg("radius"));
  m.def("rows_from_points", &rows_from_points<double>, nb::arg("points"), nb::arg("radius"));
  m.def("rows_from_distances", &rows_from_distances<float>, nb::arg("distances"), nb::arg("radius"));
  m.def("rows_from_distances", &rows_from_distances<double>, nb::arg("distances"), nb::arg("radius"));
  m.def("nearest_neighbors", &nearest_neighbors<float>, nb::arg("points"), nb::arg("k"));
  m.def("nearest_neighbors", &nearest_neighbors<double>, nb::arg("points"), nb::arg("k"));
  m.def("expand_hops", &expand_hops, nb::arg("rows"), nb::arg("hops"));
}
