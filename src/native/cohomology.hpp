// What elimination leaves: ranks of coboundary maps over GF(2), by column reduction with clearing
// (de Silva, Morozov & Vejdemo-Johansson 2011; Chen & Kerber 2011; Bauer, Ripser, 2021).
//
//   A_1 = V - E + rank d_1          A_2 = V - E + T - rank d_2
//
// There is no filtration, so any order serves; but it decides how much columns fill in. Vertices
// come by falling degree, simplices in lexicographic order, the pivot of a column is its *least*
// row and the last column comes first: then nearly every column has its pivot, the coface by a hub,
// to itself (on Gaussian clouds 40 times faster than with the greatest row).
//
// Cochains of degree k split into coboundaries and the span of the simplices that are no pivot of
// d_{k-1}; only those columns have to be reduced. In degree 1 they are the edges off a spanning
// forest. The working column is a bit tree over its rows (Bauer, Kerber, Reininghaus & Wagner, PHAT,
// 2017).
#pragma once

#include "collapse.hpp"

namespace unknot::UNKNOT_VARIANT {

// A set of numbers below n with the least at hand: toggle and take the least in a few words.
class BitTree {
 public:
  explicit BitTree(std::int64_t n) {
    do {
      n = (n + 63) / 64;
      levels_[depth_++].assign(n < 1 ? 1 : n, 0);
    } while (n > 1);
  }
  BitTree(const BitTree&) = delete;
  void toggle(std::int64_t i) {
    for (int d = 0; d < depth_; ++d) {
      Word& w = levels_[d][i >> 6];
      const bool was = w != 0;
      w ^= Word{1} << (i & 63);
      if (was == (w != 0)) return;
      i >>= 6;
    }
  }
  std::int64_t least() const {
    if (!levels_[depth_ - 1][0]) return -1;
    std::int64_t i = 0;
    for (int d = depth_ - 1; d >= 0; --d) i = i * 64 + lowest_bit(levels_[d][i]);
    return i;
  }

 private:
  Buffer<Word> levels_[7];
  int depth_ = 0;
};

// Reduces columns one by one and counts the rank. Most columns are never written down: when the
// least row is free, its owner is the column as it stands, and is enumerated again if ever needed.
// Columns gives least(c), -1 when empty, and each(c, f).
class Reducer {
 public:
  Reducer(std::int64_t rows, Control& control)
      : owner_(rows, kFree), tree_(rows), control_(control) {}

  // True when the column was independent; its pivot is then taken.
  template <class Columns>
  bool add(const Columns& columns, std::int64_t c) {
    std::int64_t row = columns.least(c);
    if (row < 0) return false;
    if (owner_[row] == kFree) {
      owner_[row] = -2 - static_cast<std::int32_t>(c);
      return true;
    }
    auto toggle = [&](std::int64_t r) { tree_.toggle(r); };
    columns.each(c, toggle);
    while ((row = tree_.least()) >= 0 && owner_[row] != kFree) {
      control_.check();
      const std::int32_t o = owner_[row];
      if (o < 0) {
        columns.each(-2 - o, toggle);
      } else {
        for (std::int64_t t = start_[o]; t < start_[o + 1]; ++t) tree_.toggle(entries_[t]);
      }
    }
    if (row < 0) return false;
    if (start_.empty()) start_.push_back(0);
    owner_[row] = static_cast<std::int32_t>(start_.size()) - 1;
    for (; row >= 0; row = tree_.least()) {
      entries_.push_back(row);
      tree_.toggle(row);
    }
    start_.push_back(static_cast<std::int64_t>(entries_.size()));
    control_.need(entries_.size() * sizeof(std::int64_t), "the columns of the core");
    return true;
  }
  bool is_pivot(std::int64_t row) const { return owner_[row] != kFree; }

 private:
  static constexpr std::int32_t kFree = -1;
  Buffer<std::int32_t> owner_;  // free, a written column, or -2 - an unwritten one
  Buffer<std::int64_t> start_, entries_;
  BitTree tree_;
  Control& control_;
};

class Cohomology {
 public:
  Cohomology(DenseView g, Control& control) : g_(g), control_(control) {
    upper_.assign(static_cast<std::size_t>(g.n) + 1, 0);
    before_.resize(static_cast<std::size_t>(g.n) * g.words);
    for (int u = 0; u < g.n; ++u) {
      std::int64_t count = 0;
      for (int k = 0; k < g.words; ++k) {
        before_[static_cast<std::size_t>(u) * g.words + k] = static_cast<std::int32_t>(count);
        count += count_bits(above(g.row(u)[k], k, u));
      }
      upper_[u + 1] = upper_[u] + count;
    }
    edges_ = upper_[g.n];
  }

  // Adds A_1, and for q = 2 also A_2. False, adding nothing, when there are more than `most`
  // tetrahedra.
  bool add(int q, std::int64_t most, std::int64_t* a1, std::int64_t* a2) {
    if (q == 2 && count_tetrahedra(most) >= most) return false;
    number_triangles(q == 2);
    Buffer<Word> tree = spanning_forest();
    Reducer first(triangles_, control_);
    std::int64_t rank = 0;
    for (std::int64_t e = edges_ - 1; e >= 0; --e) {
      control_.check();
      if (!((tree[e >> 6] >> (e & 63)) & 1)) rank += first.add(EdgeColumns{*this}, e);
    }
    *a1 += g_.n - edges_ + rank;
    if (q == 1) return true;
    number_tetrahedra();
    Reducer second(tetrahedra_, control_);
    rank = 0;
    for (std::int64_t t = triangles_ - 1; t >= 0; --t) {
      control_.check();
      if (!first.is_pivot(t)) rank += second.add(TriangleColumns{*this}, t);
    }
    *a2 += g_.n - edges_ + triangles_ - rank;
    return true;
  }
  static constexpr std::int64_t kNoLimit = INT64_MAX;

 private:
  static UNKNOT_INLINE Word above(Word x, int k, int u) {
    if (k * 64 + 63 <= u) return 0;
    return k * 64 > u ? x : x & (~Word{1} << (u & 63));
  }
  static UNKNOT_INLINE Word below(Word x, int k, int v) {
    if (k * 64 >= v) return 0;
    return (k + 1) * 64 <= v ? x : x & ((Word{1} << (v & 63)) - 1);
  }
  static UNKNOT_INLINE Word without(Word x, int k, int u, int v) {
    if (k == u >> 6) x &= ~(Word{1} << (u & 63));
    if (k == v >> 6) x &= ~(Word{1} << (v & 63));
    return x;
  }
  // Number of the edge u < v: edges are counted by u, then v.
  std::int64_t edge(int u, int v) const {
    const int k = v >> 6;
    return upper_[u] + before_[static_cast<std::size_t>(u) * g_.words + k] +
           count_bits(below(above(g_.row(u)[k], k, u), k, v));
  }
  // Number of the triangle u < v < w: by (u, v), then w.
  std::int64_t triangle(int u, int v, int w) const {
    std::int64_t t = triangle_of_[edge(u, v)];
    const Word *a = g_.row(u), *b = g_.row(v);
    for (int k = v >> 6; k <= w >> 6; ++k) t += count_bits(below(above(a[k] & b[k], k, v), k, w));
    return t;
  }
  template <class F>
  void each_edge(F f) const {
    for (int u = 0; u < g_.n; ++u)
      for (int k = u >> 6; k < g_.words; ++k)
        for (Word x = above(g_.row(u)[k], k, u); x; x &= x - 1) f(u, k * 64 + lowest_bit(x));
  }
  template <class F>
  void each_triangle_of(int u, F f) {
    for (int i = u >> 6; i < g_.words; ++i)
      for (Word y = above(g_.row(u)[i], i, u); y; y &= y - 1) {
        const int v = i * 64 + lowest_bit(y);
        control_.check();
        for (int k = v >> 6; k < g_.words; ++k)
          for (Word x = above(g_.row(u)[k] & g_.row(v)[k], k, v); x; x &= x - 1)
            f(u, v, k * 64 + lowest_bit(x));
      }
  }
  template <class F>
  void each_triangle(F f) {
    for (int u = 0; u < g_.n; ++u) each_triangle_of(u, f);
  }

  // Lexicographic place of a tetrahedron u < v < w < x.
  std::int64_t tetrahedron(int u, int v, int w, int x) const {
    std::int64_t t = tetrahedron_of_[triangle(u, v, w)];
    const Word *a = g_.row(u), *b = g_.row(v), *c = g_.row(w);
    for (int k = w >> 6; k <= x >> 6; ++k)
      t += count_bits(below(above(a[k] & b[k] & c[k], k, w), k, x));
    return t;
  }

  // The cofaces of an edge are found by their further vertex; the least by the least vertex.
  struct EdgeColumns {
    const Cohomology& of;
    std::int64_t coface(int u, int v, int z) const {
      return z < u ? of.triangle(z, u, v) : z < v ? of.triangle(u, z, v) : of.triangle(u, v, z);
    }
    std::int64_t least(std::int64_t e) const {
      const int u = of.ends_[2 * e], v = of.ends_[2 * e + 1];
      const Word *a = of.g_.row(u), *b = of.g_.row(v);
      for (int k = 0; k < of.g_.words; ++k)
        if (const Word x = without(a[k] & b[k], k, u, v)) return coface(u, v, k * 64 + lowest_bit(x));
      return -1;
    }
    template <class F>
    void each(std::int64_t e, F f) const {
      const int u = of.ends_[2 * e], v = of.ends_[2 * e + 1];
      const Word *a = of.g_.row(u), *b = of.g_.row(v);
      for (int k = 0; k < of.g_.words; ++k)
        for (Word x = without(a[k] & b[k], k, u, v); x; x &= x - 1)
          f(coface(u, v, k * 64 + lowest_bit(x)));
    }
  };
  struct TriangleColumns {
    const Cohomology& of;
    std::int64_t coface(const std::int32_t* c, int z) const {
      if (z < c[0]) return of.tetrahedron(z, c[0], c[1], c[2]);
      if (z < c[1]) return of.tetrahedron(c[0], z, c[1], c[2]);
      return z < c[2] ? of.tetrahedron(c[0], c[1], z, c[2]) : of.tetrahedron(c[0], c[1], c[2], z);
    }
    Word common(const std::int32_t* c, int k) const {
      const Word x = of.g_.row(c[0])[k] & of.g_.row(c[1])[k] & of.g_.row(c[2])[k];
      return without(without(x, k, c[0], c[1]), k, c[2], c[2]);
    }
    std::int64_t least(std::int64_t t) const {
      const std::int32_t* c = of.corners_.data() + 3 * t;
      for (int k = 0; k < of.g_.words; ++k)
        if (const Word x = common(c, k)) return coface(c, k * 64 + lowest_bit(x));
      return -1;
    }
    template <class F>
    void each(std::int64_t t, F f) const {
      const std::int32_t* c = of.corners_.data() + 3 * t;
      for (int k = 0; k < of.g_.words; ++k)
        for (Word x = common(c, k); x; x &= x - 1) f(coface(c, k * 64 + lowest_bit(x)));
    }
  };

  void number_triangles(bool corners) {
    triangle_of_.resize(edges_);
    ends_.resize(2 * edges_);
    std::int64_t e = 0;
    triangles_ = 0;
    each_edge([&](int u, int v) {
      control_.check();
      ends_[2 * e] = u;
      ends_[2 * e + 1] = v;
      triangle_of_[e++] = triangles_;
      for (int k = v >> 6; k < g_.words; ++k)
        triangles_ += count_bits(above(g_.row(u)[k] & g_.row(v)[k], k, v));
    });
    control_.need_numbers(edges_, "edges");
    control_.need_numbers(triangles_, "triangles");
    control_.need((corners ? 24 : 4) * triangles_ + 24 * edges_, "the triangles of the core");
    if (!corners) return;
    corners_.resize(3 * triangles_);
    std::int32_t* at = corners_.data();
    each_triangle([&](int u, int v, int w) {
      *at++ = u;
      *at++ = v;
      *at++ = w;
    });
  }

  void number_tetrahedra() {
    tetrahedron_of_.resize(triangles_);
    tetrahedra_ = 0;
    for (std::int64_t t = 0; t < triangles_; ++t) {
      control_.check();
      tetrahedron_of_[t] = tetrahedra_;
      const std::int32_t* c = corners_.data() + 3 * t;
      for (int k = c[2] >> 6; k < g_.words; ++k)
        tetrahedra_ += count_bits(
            above(g_.row(c[0])[k] & g_.row(c[1])[k] & g_.row(c[2])[k], k, c[2]));
    }
    control_.need_numbers(tetrahedra_, "tetrahedra");
    control_.need(5 * tetrahedra_ + 24 * triangles_, "the tetrahedra of the core");
  }

  // How many tetrahedra there are, but no more than about `most`.
  std::int64_t count_tetrahedra(std::int64_t most) {
    std::int64_t count = 0;
    for (int u = 0; u < g_.n && count < most; ++u)
      each_triangle_of(u, [&](int, int v, int w) {
        for (int k = w >> 6; k < g_.words; ++k)
          count += count_bits(above(g_.row(u)[k] & g_.row(v)[k] & g_.row(w)[k], k, w));
      });
    return count;
  }

  // One bit an edge, breadth first from the lowest vertex of each component.
  Buffer<Word> spanning_forest() const {
    Buffer<Word> tree(static_cast<std::size_t>(edges_) / 64 + 1, 0), left(g_.words, 0);
    fill_ones(left.data(), g_.n);
    Buffer<int> queue;
    for (int root = 0; root < g_.n; ++root) {
      if (!has_bit(left.data(), root)) continue;
      clear_bit(left.data(), root);
      queue.clear();
      queue.push_back(root);
      for (std::size_t i = 0; i < queue.size(); ++i)
        for (int k = 0, u = queue[i]; k < g_.words; ++k) {
          Word found = g_.row(u)[k] & left[k];
          left[k] &= ~found;
          for (; found; found &= found - 1) {
            const int v = k * 64 + lowest_bit(found);
            const std::int64_t e = u < v ? edge(u, v) : edge(v, u);
            tree[e >> 6] |= Word{1} << (e & 63);
            queue.push_back(v);
          }
        }
    }
    return tree;
  }

  DenseView g_;
  Control& control_;
  Buffer<std::int64_t> upper_;       // first edge of each vertex
  Buffer<std::int32_t> before_;      // edges of u to vertices in earlier words
  std::int64_t edges_ = 0, triangles_ = 0, tetrahedra_ = 0;
  Buffer<std::int32_t> ends_, corners_;                // of edges, of triangles
  Buffer<std::int64_t> triangle_of_, tetrahedron_of_;  // first of each edge, of each triangle
};

}  // namespace unknot::UNKNOT_VARIANT
