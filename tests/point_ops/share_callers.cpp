// Two callers and their helpers in share.h, with pieces that only sleep, so that who waits for whom
// is certain. Ends with status 1 where a caller does not return within 5 s.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include <pthread.h>

namespace at {
int get_num_threads() { return 3; }
bool in_parallel_region() { return false; }
}  // namespace at
namespace {
#include "share.h"
}

using std::chrono::milliseconds;

// Two pieces: the caller's own takes 20 ms, that of a helper as long as it is told.
void call(milliseconds helper) {
  const auto me = std::this_thread::get_id();
  share(2, 1, [&](int64_t, int64_t) {
    const bool own = std::this_thread::get_id() == me;
    std::this_thread::sleep_for(own ? milliseconds(20) : helper);
  });
}

int main() {
  share(3, 1, [](int64_t, int64_t) { std::this_thread::sleep_for(milliseconds(5)); });
  std::this_thread::sleep_for(milliseconds(50));  // both helpers are there now, and asleep
  for (int turn = 0; turn < 3; ++turn) {
    std::atomic<int> returned{0};
    // one helper is long at the first caller's piece; the other is free for the second caller
    std::thread first([&] { call(milliseconds(300)); ++returned; });
    std::this_thread::sleep_for(milliseconds(60 + 20 * turn));
    std::thread second([&] { call(milliseconds(100)); ++returned; });
    for (int i = 0; i < 500 && returned < 2; ++i) std::this_thread::sleep_for(milliseconds(10));
    if (returned < 2) std::_Exit(1);
    first.join();
    second.join();
  }
}
