// The two mutable graphs that eliminate() works on: packed rows, and sorted neighbour lists.
//
// Both give: n(), alive(v), degrees(), gather(v, neighbours, link), remove_vertex(v),
// remove_edges(v, neighbours, removed, link).
#pragma once

#include "collapse.hpp"
#include "links.hpp"

namespace unknot::UNKNOT_VARIANT {

class DenseGraph {
 public:
  DenseGraph(Buffer<Word> rows, int n)
      : rows_(static_cast<Buffer<Word>&&>(rows)), n_(n), words_(words_for(n)), alive_(words_, 0) {
    fill_ones(alive_.data(), n);
  }
  int n() const { return n_; }
  bool alive(int v) const { return has_bit(alive_.data(), v); }
  DenseView view() const { return {rows_.data(), n_, words_}; }

  Buffer<int> degrees() const {
    Buffer<int> d(n_);
    for (int v = 0; v < n_; ++v) {
      int sum = 0;
      for (int k = 0; k < words_; ++k) sum += count_bits(row(v)[k]);
      d[v] = sum - 1;
    }
    return d;
  }
  void neighbours(int v, Buffer<int>& out) const {
    out.clear();
    for_each_bit(row(v), words_, [&](int u) {
      if (u != v) out.push_back(u);
    });
  }
  // The neighbours of v and the graph among them; returns the degree.
  int gather(int v, Buffer<int>& out, Link& link) {
    Word* r = row(v);
    clear_bit(r, v);
    packer_.set(r, 0, words_);
    out.clear();
    for_each_bit(r, words_, [&](int u) { out.push_back(u); });
    link.reshape(packer_.bits);
    for (int y = 0; y < link.m; ++y) packer_.pack(row(out[y]), link.row(y));
    set_bit(r, v);
    return link.m;
  }
  void remove_edges(int v, const Buffer<int>& neighbours, const Buffer<int>& removed) {
    for (int y : removed) {
      clear_bit(row(neighbours[y]), v);
      clear_bit(row(v), neighbours[y]);
    }
  }
  void remove_vertex(int v) {
    Word* r = row(v);
    for_each_bit(r, words_, [&](int u) {
      if (u != v) clear_bit(row(u), v);
    });
    for (int k = 0; k < words_; ++k) r[k] = 0;
    clear_bit(alive_.data(), v);
  }

 private:
  Word* row(int v) { return rows_.data() + static_cast<std::size_t>(v) * words_; }
  const Word* row(int v) const { return rows_.data() + static_cast<std::size_t>(v) * words_; }
  Buffer<Word> rows_;
  int n_, words_;
  Buffer<Word> alive_;
  Packer packer_;
};

class SparseGraph {
 public:
  // Symmetric CSR, indices rising in each row, no self-loops.
  SparseGraph(const std::int64_t* indptr, const std::int32_t* indices, int n)
      : start_(static_cast<std::size_t>(n) + 1), size_(n), place_(n, -1) {
    for (int v = 0; v <= n; ++v) start_[v] = indptr[v];
    list_.resize(indptr[n]);
    if (indptr[n]) std::memcpy(list_.data(), indices, sizeof(std::int32_t) * indptr[n]);
    for (int v = 0; v < n; ++v) size_[v] = static_cast<int>(indptr[v + 1] - indptr[v]);
  }
  int n() const { return static_cast<int>(size_.size()); }
  bool alive(int v) const { return size_[v] >= 0; }
  Buffer<int> degrees() const { return size_; }
  void neighbours(int v, Buffer<int>& out) const {
    out.clear();
    for (int t = 0; t < size_[v]; ++t) out.push_back(list_[start_[v] + t]);
  }
  int gather(int v, Buffer<int>& out, Link& link) {
    neighbours(v, out);
    const int m = static_cast<int>(out.size());
    link.reshape(m);
    for (int y = 0; y < m; ++y) place_[out[y]] = y;
    for (int y = 0; y < m; ++y) {
      Word* r = link.row(y);
      for (int k = 0; k < link.words; ++k) r[k] = 0;
      set_bit(r, y);
      const int u = out[y];
      const std::int32_t* list = list_.data() + start_[u];
      for (int t = 0; t < size_[u]; ++t)
        if (place_[list[t]] >= 0) set_bit(r, place_[list[t]]);
    }
    for (int y = 0; y < m; ++y) place_[out[y]] = -1;
    return m;
  }
  void remove_edges(int v, const Buffer<int>& neighbours, const Buffer<int>& removed) {
    for (int y : removed) {
      erase(neighbours[y], v);
      erase(v, neighbours[y]);
    }
  }
  void remove_vertex(int v) {
    for (int t = 0; t < size_[v]; ++t) erase(list_[start_[v] + t], v);
    size_[v] = -1;
  }

 private:
  void erase(int u, int v) {
    std::int32_t* list = list_.data() + start_[u];
    int t = 0;
    while (list[t] != v) ++t;
    for (--size_[u]; t < size_[u]; ++t) list[t] = list[t + 1];
  }
  Buffer<std::int64_t> start_;
  Buffer<std::int32_t> list_;
  Buffer<int> size_;  // -1: removed
  Buffer<int> place_;
};

}  // namespace unknot::UNKNOT_VARIANT
