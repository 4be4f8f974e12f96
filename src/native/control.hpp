// How a long computation is stopped: a shared flag, a deadline, and a poll by the calling thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace unknot {

struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};
struct BudgetExceeded : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct MemoryRefused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Control {
  using Clock = std::chrono::steady_clock;
  std::atomic<bool>* stop = nullptr;     // set by whichever thread ends the run
  bool (*poll)(void*) = nullptr;         // true: the user asked to stop. Calling thread only.
  void* poll_context = nullptr;
  double budget_s = 0;                   // 0: none
  std::size_t memory_limit = 0;          // bytes the core may take; 0: none
  Clock::time_point start = Clock::now();
  Clock::time_point next_poll = start;
  unsigned ticks = 0;

  // Call once per small unit of work (well under a millisecond).
  void check() {
    if ((++ticks & 31u) == 0) check_now();
  }
  void check_now();
  // Refuses before the memory is taken.
  void need(std::size_t bytes, const char* what) const;
  // Refuses more than 32-bit numbers can tell apart.
  void need_numbers(std::int64_t count, const char* what) const;
};

}  // namespace unknot
