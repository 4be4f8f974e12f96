// b1 from the first cohomology: functions f on the edges, into GF(2), that sum to zero around every
// triangle, up to coboundaries. One representative of each class is zero on a spanning forest, so
//
//     b1 = dimension of the f with f = 0 on the forest and f(uv) + f(vw) + f(uw) = 0.
//
// Closing the forest under "two edges of a triangle are zero, hence the third" settles most edges,
// with whole rows at a time and no triangle listed. Edges at one vertex whose other ends are joined
// by zero edges have equal values; what is left are a few classes and equations between three of
// them, and b1 = classes - rank.
#pragma once

#include "cohomology.hpp"

namespace unknot::UNKNOT_VARIANT {

// Two bits an edge, in two matrices: zero_ and the rows of the graph themselves, which are overwritten.
//
//     zero_ row
//       0    1   unknown
//       1    1   zero, and not looked along yet from this end
//       1    0   zero and looked along
//
// No edge is 0 0, so the graph can be put back.
class Closure {
 public:
  Closure(Word* rows, int n, Control& control)
      : rows_(rows), n_(n), words_(words_for(n)), control_(control),
        zero_(static_cast<std::size_t>(n) * words_, 0), low_(n), high_(n), open_(n), list_(n) {}

  // Components and b1; false when the equations left are too many for this method. The rows are void
  // then and later, until restore().
  bool run(std::int64_t& b0, std::int64_t& b1) {
    b0 = grow_forest();
    for (;;) {
      close();
      number_unknowns();
      if (unknowns_ == 0) {
        b1 = 0;
        return true;
      }
      join_at_vertices();
      if (!list_equations()) return false;
      if (!settle_zero_classes()) break;
    }
    b1 = classes() - rank();
    return true;
  }

  void restore() {
    for (std::size_t i = 0; i < zero_.size(); ++i) rows_[i] |= zero_[i];
  }

 private:
  Word* zero(int v) { return zero_.data() + static_cast<std::size_t>(v) * words_; }
  Word* row(int v) { return rows_ + static_cast<std::size_t>(v) * words_; }

  // An unknown edge becomes zero.
  void set_zero(int u, int v) {
    set_bit(zero(u), v);
    set_bit(zero(v), u);
    --open_[u];
    --open_[v];
  }

  // Breadth first, each component from a vertex of highest degree: its star settles the most.
  std::int64_t grow_forest() {
    Buffer<int> order(n_), start(static_cast<std::size_t>(n_) + 2, 0), queue;
    for (int v = 0; v < n_; ++v) {
      int degree = -1, lo = words_, hi = 0;
      for (int k = 0; k < words_; ++k)
        if (row(v)[k]) {
          degree += count_bits(row(v)[k]);
          lo = k < lo ? k : lo;
          hi = k + 1;
        }
      low_[v] = lo;
      high_[v] = hi;
      open_[v] = degree;
      ++start[n_ - degree];
    }
    for (int k = 0; k <= n_; ++k) start[k + 1] += start[k];
    for (int v = 0; v < n_; ++v) order[start[n_ - open_[v] - 1]++] = v;
    Buffer<Word> left(words_, 0);
    fill_ones(left.data(), n_);
    std::int64_t b0 = 0;
    for (int root : order) {
      if (!has_bit(left.data(), root)) continue;
      ++b0;
      clear_bit(left.data(), root);
      queue.clear();
      queue.push_back(root);
      for (std::size_t i = 0; i < queue.size(); ++i) {
        const int u = queue[i];
        set_bit(zero(u), u);  // harmless, and u need not be masked out below
        clear_bit(row(u), u);
        for (int k = low_[u]; k < high_[u]; ++k) {
          Word found = row(u)[k] & left[k];
          left[k] &= ~found;
          for (; found; found &= found - 1) {
            const int v = k * 64 + lowest_bit(found);
            set_zero(u, v);
            queue.push_back(v);
          }
        }
      }
      for (int u : queue) list_.push(u);
    }
    return b0;
  }

  // For each zero edge (v, x), once from either end: neighbours of v that x reaches by zero edges.
  void close() {
    while (!list_.empty()) {
      control_.check();
      const int v = list_.pop();
      Word *z = zero(v), *r = row(v);
      const int lo = low_[v], hi = high_[v];
      for (int k = lo; k < hi && open_[v] > 0;) {
        Word fresh = z[k] & r[k];
        if (!fresh) {
          ++k;
          continue;
        }
        r[k] &= ~fresh;  // one store for all: vector loads of r right after a store would stall
        int back = k;
        for (; fresh && open_[v] > 0; fresh &= fresh - 1) {
          const Word* zx = zero(k * 64 + lowest_bit(fresh));
          Word any = 0;
          for (int j = lo; j < hi; ++j) any |= zx[j] & r[j] & ~z[j];
          if (!any) continue;
          for (int j = lo; j < hi; ++j)
            for (Word found = zx[j] & r[j] & ~z[j]; found; found &= found - 1) {
              const int y = j * 64 + lowest_bit(found);
              set_zero(v, y);
              if (open_[y] > 0) list_.push(y);
              if (j < back) back = j;
            }
        }
        k = back;
      }
    }
  }

  // Unknown edges are numbered by their lesser end.
  void number_unknowns() {
    const int words = words_;
    first_.resize(n_);
    unknowns_ = 0;
    for (int v = 0; v < n_; ++v) {
      first_[v] = unknowns_;
      if (open_[v] == 0) continue;
      for (int k = v >> 6; k < words; ++k) unknowns_ += count_bits(unknown_above(v, k));
    }
    parent_.resize(unknowns_);
    for (int e = 0; e < unknowns_; ++e) parent_[e] = e;
  }
  // Word k of the unknown edges at v; the same, to greater vertices only.
  Word unknown(int v, int k) const {
    const std::size_t at = static_cast<std::size_t>(v) * words_ + k;
    return rows_[at] & ~zero_[at];
  }
  Word unknown_above(int v, int k) const {
    return k == v >> 6 ? unknown(v, k) & (~Word{1} << (v & 63)) : unknown(v, k);
  }

  int number(int u, int v) {
    if (u > v) {
      const int t = u;
      u = v;
      v = t;
    }
    int e = first_[u];
    for (int k = u >> 6; k <= v >> 6; ++k) {
      Word x = unknown_above(u, k);
      if (k == v >> 6) x &= (Word{1} << (v & 63)) - 1;
      e += count_bits(x);
    }
    return e;
  }
  int find(int e) {
    while (parent_[e] != e) e = parent_[e] = parent_[parent_[e]];
    return e;
  }
  void join(int a, int b) { parent_[find(a)] = find(b); }

  // At each vertex: other ends joined by zero edges mean equal values.
  void join_at_vertices() {
    const int words = words_;
    Buffer<Word> left(words);
    Buffer<int> stack;
    for (int v = 0; v < n_; ++v) {
      if (open_[v] == 0) continue;
      control_.check();
      for (int k = 0; k < words; ++k) left[k] = unknown(v, k);
      for (int k = 0; k < words; ++k)
        while (left[k]) {
          const int root = k * 64 + lowest_bit(left[k]), e = number(v, root);
          clear_bit(left.data(), root);
          stack.push_back(root);
          while (!stack.empty()) {
            const Word* z = zero(stack[stack.size() - 1]);
            stack.resize(stack.size() - 1);
            for (int j = k; j < words; ++j) {
              Word found = z[j] & left[j];
              left[j] &= ~found;
              for (; found; found &= found - 1) {
                stack.push_back(j * 64 + lowest_bit(found));
                join(e, number(v, stack[stack.size() - 1]));
              }
            }
          }
        }
    }
  }

  // Triangles of three unknown edges. Two equal classes make the third zero.
  bool list_equations() {
    equations_.clear();
    zero_class_.assign(unknowns_, 0);
    const int words = words_;
    for (int u = 0; u < n_; ++u) {
      if (open_[u] == 0) continue;
      for (int k = u >> 6; k < words; ++k) {
        for (Word x = unknown_above(u, k); x; x &= x - 1) {
          control_.check();
          const int v = k * 64 + lowest_bit(x);
          for (int j = v >> 6; j < words; ++j) {
            for (Word y = unknown(u, j) & unknown_above(v, j); y; y &= y - 1) {
              const int w = j * 64 + lowest_bit(y);
              const int a = find(number(u, v)), b = find(number(u, w)), c = find(number(v, w));
              if (a == b) {
                zero_class_[c] = 1;
              } else if (a == c) {
                zero_class_[b] = 1;
              } else if (b == c) {
                zero_class_[a] = 1;
              } else {
                equations_.push_back(a);
                equations_.push_back(b);
                equations_.push_back(c);
              }
              if (equations_.size() > 3 * kMostEquations) return false;
            }
          }
        }
      }
    }
    return true;
  }

  // Puts the edges of the classes found zero among the zero edges; false when there were none.
  bool settle_zero_classes() {
    bool any = false;
    for (int e = 0; e < unknowns_ && !any; ++e) any = zero_class_[e];
    if (!any) return false;
    int e = 0;
    for (int u = 0; u < n_; ++u)
      for (int k = u >> 6; k < words_; ++k)
        for (Word x = unknown_above(u, k); x; x &= x - 1, ++e)
          if (zero_class_[find(e)]) {
            const int v = k * 64 + lowest_bit(x);
            set_zero(u, v);
            list_.push(u);
            list_.push(v);
          }
    return true;
  }

  std::int64_t classes() {
    place_.assign(unknowns_, -1);
    std::int64_t count = 0;
    for (int e = 0; e < unknowns_; ++e)
      if (parent_[e] == e) place_[e] = count++;
    return count;
  }

  struct EquationColumns {
    const Closure& of;
    std::int64_t at(std::int64_t c, int i) const { return of.place_[of.equations_[3 * c + i]]; }
    std::int64_t least(std::int64_t c) const {
      std::int64_t row = at(c, 0);
      if (at(c, 1) < row) row = at(c, 1);
      return at(c, 2) < row ? at(c, 2) : row;
    }
    template <class F>
    void each(std::int64_t c, F f) const {
      for (int i = 0; i < 3; ++i) f(at(c, i));
    }
  };
  std::int64_t rank() {
    Reducer reducer(unknowns_, control_);
    std::int64_t rank = 0;
    for (std::size_t c = 0; c < equations_.size() / 3; ++c) {
      control_.check();
      rank += reducer.add(EquationColumns{*this}, static_cast<std::int64_t>(c));
    }
    return rank;
  }

  static constexpr std::size_t kMostEquations = 1000;

  Word* rows_;
  int n_, words_;
  Control& control_;
  Buffer<Word> zero_;
  Buffer<int> low_, high_;    // the words that hold the neighbours of each vertex
  Buffer<int> open_;          // unknown edges at each vertex
  Worklist list_;
  Buffer<int> first_, parent_, equations_;
  int unknowns_ = 0;
  Buffer<char> zero_class_;
  Buffer<std::int64_t> place_;
};

}  // namespace unknot::UNKNOT_VARIANT
