// Sums over the GPUs of several processes, by NCCL's own C interface from the library that
// libtorch_cuda.so has loaded. It is found at run time and needs no header of CUDA, so that one
// program serves machines with and without it. Called by src/train/c10d.rs only.

#include "message.h"

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <dlfcn.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace {

// From nccl.h; its numbers have never changed. Joining by ncclCommInitRank makes a communicator whose
// calls block until they are queued, so that none returns kInProgress.
struct Id {
  char bytes[128];
};
constexpr int kSuccess = 0;
constexpr int kInProgress = 7;
constexpr int kFloat32 = 7;
constexpr int kSum = 0;

template <class F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  TORCH_CHECK(function != nullptr, "NCCL has no `", name, "`");
}

// A group being joined by a thread of its own: NCCL waits for the others as long as it takes, and
// only whoever waits for the thread can stop waiting.
struct Joining {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  int status = kSuccess;
  std::string failure;
  void* communicator = nullptr;
};

} // namespace

struct W2sNccl {
  int (*get_id)(Id*);
  int (*init)(void**, int, Id, int);
  int (*all_reduce)(const void*, void*, size_t, int, int, void*, void*);
  int (*async_error)(void*, int*);
  int (*abort)(void*);
  const char* (*error_text)(int);
  void* communicator = nullptr;
  c10::Device device{c10::kCPU};
  std::chrono::milliseconds timeout{0};

  void check(int status) const {
    TORCH_CHECK(status == kSuccess, "NCCL: ", error_text(status));
  }

  // By abort, not ncclCommDestroy: that waits for the others, which may be gone. Nothing is lost:
  // every sum was waited for, here and, because a sum by Gloo follows, in the others.
  void stop() {
    if (communicator != nullptr) {
      abort(communicator);
      communicator = nullptr;
    }
  }

  ~W2sNccl() {
    stop();
  }
};

extern "C" {

W2sNccl* w2s_nccl_open(const char* name, char* text, size_t size) {
  auto nccl = std::make_unique<W2sNccl>();
  const int status = guarded({text, size}, [&] {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(library != nullptr, dlerror());
    find(library, "ncclGetUniqueId", nccl->get_id);
    find(library, "ncclCommInitRank", nccl->init);
    find(library, "ncclAllReduce", nccl->all_reduce);
    find(library, "ncclCommGetAsyncError", nccl->async_error);
    find(library, "ncclCommAbort", nccl->abort);
    find(library, "ncclGetErrorString", nccl->error_text);
  });
  return status == 0 ? nccl.release() : nullptr;
}

// Writes the 128 bytes by which the processes of a new group know each other.
int w2s_nccl_id(W2sNccl* nccl, uint8_t* id, char* text, size_t size) {
  return guarded({text, size}, [&] {
    Id made;
    nccl->check(nccl->get_id(&made));
    std::memcpy(id, made.bytes, sizeof made.bytes);
  });
}

int w2s_nccl_join(
    W2sNccl* nccl,
    const uint8_t* id,
    int32_t rank,
    int32_t num,
    int32_t device,
    int64_t timeout_ms,
    char* text,
    size_t size) {
  return guarded({text, size}, [&] {
    Id given;
    std::memcpy(given.bytes, id, sizeof given.bytes);
    nccl->device =
        c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(device));
    nccl->timeout = std::chrono::milliseconds(timeout_ms);
    const auto joining = std::make_shared<Joining>();
    const auto work = [joining, given, rank, num, init = nccl->init, device = nccl->device] {
      int status = kSuccess;
      void* communicator = nullptr;
      std::string failure;
      try {
        const c10::DeviceGuard guard(device);
        status = init(&communicator, num, given, rank);
      } catch (const std::exception& error) {
        failure = error.what();
      }
      const std::lock_guard<std::mutex> lock(joining->mutex);
      joining->done = true;
      joining->status = status;
      joining->failure = failure;
      joining->communicator = communicator;
      joining->changed.notify_all();
    };
    std::thread(work).detach();
    std::unique_lock<std::mutex> lock(joining->mutex);
    const bool came = joining->changed.wait_for(
        lock, nccl->timeout, [&] { return joining->done; });
    TORCH_CHECK(came, "NCCL: the other processes did not join in time");
    TORCH_CHECK(joining->failure.empty(), joining->failure);
    nccl->check(joining->status);
    nccl->communicator = joining->communicator;
  });
}

int w2s_nccl_sum(W2sNccl* nccl, at::Tensor* tensor, char* text, size_t size) {
  return guarded({text, size}, [&] {
    TORCH_CHECK(nccl->communicator != nullptr, "NCCL was stopped before");
    TORCH_CHECK(
        tensor->device() == nccl->device && tensor->is_contiguous() &&
            tensor->scalar_type() == at::kFloat,
        "expected a contiguous tensor of f32 on the group's GPU");
    const c10::DeviceGuard guard(nccl->device);
    const c10::impl::VirtualGuardImpl gpu(c10::kCUDA);
    const c10::Stream stream = gpu.getStream(nccl->device);
    void* data = tensor->data_ptr();
    nccl->check(nccl->all_reduce(
        data,
        data,
        static_cast<size_t>(tensor->numel()),
        kFloat32,
        kSum,
        nccl->communicator,
        gpu.getStreamNativeHandle(stream)));
    // A kernel whose peer is gone never ends: look for errors and the time while waiting.
    const auto began = std::chrono::steady_clock::now();
    while (!gpu.queryStream(stream)) {
      int status = kSuccess;
      nccl->check(nccl->async_error(nccl->communicator, &status));
      const bool late =
          std::chrono::steady_clock::now() - began > nccl->timeout;
      if (late || (status != kSuccess && status != kInProgress)) {
        nccl->stop();
        TORCH_CHECK(!late, "NCCL: timed out");
        nccl->check(status);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
}

void w2s_nccl_leave(W2sNccl* nccl) {
  delete nccl;
}

} // extern "C"
