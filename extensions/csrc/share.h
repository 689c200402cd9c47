// Hands work out to threads in small pieces, each to whichever is free first: for short kernels
// that stand alone, as those that make patches. (`divide` is for those between matrix products.)
//
// at::parallel_for gives every thread one fixed share, and returns when all threads have passed its
// end. Where other processes use the cores, a thread may have to wait some milliseconds for a core
// before it so much as begins, and a kernel of 0.1 ms waits for it. Here the caller takes pieces
// like any other thread, and waits at the end for pieces that a helper has begun, and never for a
// helper that has not run. On an idle machine it is as quick. Included by bindings.cpp only.

// What one call has to do. It lives on the stack of the caller, who takes it off the board and
// waits for those that work on it before it returns.
class Job {
 public:
  template <class F>
  Job(int64_t pieces, const F& f)
      : run_([](const void* what, int64_t piece) { (*static_cast<const F*>(what))(piece); }),
        what_(&f), pieces_(pieces) {}

  // Does pieces until none is left. After an exception nobody begins another one.
  void work() noexcept {
    try {
      for (int64_t piece; (piece = next_.fetch_add(1, std::memory_order_relaxed)) < pieces_;)
        run_(what_, piece);
    } catch (...) {
      next_.store(pieces_, std::memory_order_relaxed);
      const std::lock_guard<std::mutex> lock(erring_);
      if (!error_) error_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

  int64_t seats = 0;               // of helpers that may still join; guarded by the board's lock
  std::atomic<int64_t> helping{0};  // changed under the board's lock

 private:
  void (*run_)(const void*, int64_t);
  const void* what_;
  int64_t pieces_;
  std::atomic<int64_t> next_{0};
  std::mutex erring_;
  std::exception_ptr error_;
};

// Waits a little for `ready` without giving the core away: to sleep and wake up costs as much.
template <class F>
bool spun(const F& ready) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
  do {
    if (ready()) return true;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// Threads that help whoever has put a job on their board; one job at a time.
class Helpers {
 public:
  static Helpers& get() {
#if defined(__unix__) || defined(__APPLE__)
    // threads do not survive a fork, and a lock may have been held by one of them
    static const int once = pthread_atfork(nullptr, nullptr, [] { current() = new Helpers; });
    (void)once;
#endif
    return *current();
  }

  void together(Job& job, int64_t helpers) {
    const bool posted = post(job, helpers);
    for (int64_t i = 0; posted && i < helpers; ++i) wake_.notify_one();
    job.work();
    if (!posted) return;  // the board had another thread's job
    const auto alone = [&] { return job.helping.load(std::memory_order_relaxed) == 0; };
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = nullptr;
    }
    spun(alone);
    // under the lock, which the last helper gives up when it has left the job
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, alone);
  }

 private:
  static Helpers*& current() {
    static Helpers* helpers = new Helpers;  // never deleted: its threads end with the process
    return helpers;
  }

  // Whether the job is on the board now.
  bool post(Job& job, int64_t helpers) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (job_ != nullptr) return false;
    try {
      for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
      if (threads_ == 0) return false;  // this process may have no more threads: fewer help
    }
    job.seats = helpers;
    job_ = &job;
    posted_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }

  void serve() {
    const auto open = [this] { return job_ != nullptr && job_->seats > 0; };
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, open);
      Job& job = *job_;
      --job.seats;
      job.helping.fetch_add(1, std::memory_order_relaxed);
      lock.unlock();
      job.work();
      lock.lock();
      job.seats = 0;  // no piece is left
      // all that wait: two callers may, each for its own job
      if (job.helping.fetch_sub(1, std::memory_order_relaxed) == 1) done_.notify_all();
      const uint64_t before = posted_.load(std::memory_order_relaxed);
      lock.unlock();
      spun([&] { return posted_.load(std::memory_order_relaxed) != before; });
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<uint64_t> posted_{0};  // jobs so far; changed under the lock
  Job* job_ = nullptr;
  int64_t threads_ = 0;
};

// f(first, last) for pieces of `size` of the numbers below n, several at a time, in no order.
template <class F>
void share(int64_t n, int64_t size, const F& f) {
  const int64_t pieces = (n + size - 1) / size;
  const auto piece = [&](int64_t i) { f(i * size, std::min(n, (i + 1) * size)); };
  const int64_t helpers = std::min<int64_t>(at::get_num_threads(), pieces) - 1;
  if (helpers < 1 || at::in_parallel_region()) {
    for (int64_t i = 0; i < pieces; ++i) piece(i);
    return;
  }
  Job job(pieces, piece);
  Helpers::get().together(job, helpers);
  job.rethrow();
}
