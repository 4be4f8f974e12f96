// Taking a graph apart while one alternating sum of Betti numbers is known to change by a known
// amount.
//
// Let A_q(K) = b_0 - b_1 + ... + (-1)^q b_q of the flag complex K of the graph. For an edge e with
// link L (the flag complex on the common neighbours of its ends), K is K - e with a cone over the
// suspension of L glued on. When H_{q-1}(L) = 0 (reduced for q = 1), the exact sequence of that
// gluing splits off the degrees above q, and
//
//     A_q(K) = A_q(K - e) - 1 + b_0(L) - b_1(L) + ... (degrees below q - 1; for q = 1: [L not empty]).
//
// So for q = 1 an edge may go whenever L is connected (change 0) or empty (change -1), and for q = 2
// whenever H_1(L) = 0 (change b_0(L) - 1). Contractible L changes neither. An isolated vertex
// takes 1 with it. When the graph is used up, the sum of the changes is A_q; what cannot be
// removed is left for cohomology. b_1 = b_0 - A_1 and b_2 = A_2 - b_0 + b_1, with b_0 by search, so
// no union-find has to follow edges and vertices that are gone.
#pragma once

#include "control.hpp"
#include "graphs.hpp"

namespace unknot::UNKNOT_VARIANT {

enum class Rule {
  contractible,  // keeps the homotopy type, up to the counted changes: valid for every q
  first,         // q = 1
  second,        // q = 2
};

template <class Graph>
class Eliminator {
 public:
  Eliminator(Graph& graph, Control& control)
      : graph_(graph), control_(control), list_(graph.n()) {}

  // Removes what the rule allows; returns the sum of the changes.
  template <Rule rule>
  std::int64_t run() {
    push_by_degree(list_, living_degrees());
    std::int64_t change = 0;
    while (!list_.empty()) {
      control_.check();
      const int v = list_.pop();
      if (graph_.alive(v)) change += visit<rule>(v);
    }
    return change;
  }

 private:
  Buffer<int> living_degrees() const {
    Buffer<int> d = graph_.degrees();
    for (int& x : d)
      if (x < 0) x = 0;
    return d;
  }

  template <Rule rule>
  std::int64_t visit(int v) {
    const int m = graph_.gather(v, near_, link_);
    if (m == 0) {
      graph_.remove_vertex(v);
      return 1;
    }
    const int words = link_.words;
    Word* present = link_.present.data();
    if (is_cone(link_, present)) {
      graph_.remove_vertex(v);
      for (int u : near_) list_.push(u);
      return 0;
    }
    todo_.resize(words);
    common_.resize(words);
    woken_.assign(words, 0);
    scratch_.resize(2 * static_cast<std::size_t>(words));
    removed_.clear();
    std::memcpy(todo_.data(), present, words * sizeof(Word));
    std::int64_t change = 0;
    int left = m;
    for (int k = 0; k < words;) {
      if (!todo_[k]) {
        ++k;
        continue;
      }
      control_.check();
      const int y = k * 64 + lowest_bit(todo_[k]);
      clear_bit(todo_.data(), y);
      Word any = 0;
      for (int j = 0; j < words; ++j) common_[j] = link_.row(y)[j] & present[j];
      clear_bit(common_.data(), y);
      for (int j = 0; j < words; ++j) any |= common_[j];
      int delta = -1;
      if (any && !removable<rule>(delta)) continue;
      change += delta;
      --left;
      clear_bit(present, y);
      removed_.push_back(y);
      for (int j = 0; j < words; ++j) {
        todo_[j] |= common_[j];
        woken_[j] |= common_[j];
        if (common_[j] && j < k) k = j;
      }
    }
    if (removed_.empty()) return 0;
    if (left == 0) {
      graph_.remove_vertex(v);
      ++change;
    } else {
      graph_.remove_edges(v, near_, removed_);
    }
    for (int y : removed_) list_.push(near_[y]);
    for_each_bit(woken_.data(), words, [&](int y) { list_.push(near_[y]); });
    return change;
  }

  // The edge whose ends have common_ (not empty) in common may go, and A_q changes by delta.
  template <Rule rule>
  bool removable(int& delta) {
    delta = 0;
    if constexpr (rule == Rule::first) {
      return is_connected(link_, common_.data(), scratch_.data(), scratch_.data() + link_.words);
    } else {
      if (is_cone(link_, common_.data())) return true;
      if constexpr (rule == Rule::contractible) return false;
      std::memcpy(scratch_.data(), common_.data(), link_.words * sizeof(Word));
      const int parts = contractible_components(link_, scratch_.data());
      delta = parts - 1;
      return parts > 0;
    }
  }

  Graph& graph_;
  Control& control_;
  Worklist list_;
  Link link_;
  Buffer<int> near_, removed_;
  Buffer<Word> todo_, common_, woken_, scratch_;
};

}  // namespace unknot::UNKNOT_VARIANT
