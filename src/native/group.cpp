// Several processes that compute together, by PyTorch's c10d: a TCPStore to meet at, and
// ProcessGroupGloo. Called by src/train/c10d.rs only. A tensor is tch's C_tensor*, an at::Tensor*.

#include "message.h"

#define USE_C10D_GLOO 1
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <memory>
#include <string>
#include <vector>

using std::chrono::milliseconds;

namespace {

// Says nothing on stderr while it lives: c10d tells each of its attempts to connect there, with
// stack traces, and in the end throws the reason.
struct Silence {
  int level = FLAGS_caffe2_log_level;

  Silence() {
    FLAGS_caffe2_log_level = c10::GLOG_FATAL;
  }
  ~Silence() {
    FLAGS_caffe2_log_level = level;
  }
};

// Gloo adds up raw memory: tensors of other strides on other ranks would silently give wrong sums.
void check(const at::Tensor& tensor) {
  TORCH_CHECK(
      tensor.device().is_cpu() && tensor.layout() == at::kStrided &&
          tensor.is_contiguous(),
      "expected a contiguous tensor on the CPU");
}

} // namespace

struct W2sGroup {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> gloo;
  milliseconds timeout;
};

// What a process knows before it joins; mirrored in src/train/c10d.rs.
struct W2sProcess {
  int32_t rank;
  int32_t size;
  const char* host;
  uint16_t port;
  // A listening socket that the store takes over; -1 where another process has the store.
  int32_t listener;
  // Sets this training apart from others that use the store.
  const char* prefix;
  // Addresses or, after `if:`, interfaces of this machine, with commas between; empty: the one of
  // its name.
  const char* devices;
  int64_t join_ms;
  int64_t peer_ms;
};

extern "C" {

W2sGroup* w2s_group_join(const W2sProcess* process, char* text, size_t size) {
  auto group = std::make_unique<W2sGroup>();
  const int status = guarded({text, size}, [&] {
    const Silence silence;
    const milliseconds join(process->join_ms);
    c10d::TCPStoreOptions store;
    store.port = process->port;
    store.isServer = process->listener >= 0;
    if (store.isServer) {
      store.masterListenFd = process->listener;
    }
    store.numWorkers = static_cast<size_t>(process->size);
    store.timeout = join;
    group->store = c10::make_intrusive<c10d::PrefixStore>(
        process->prefix,
        c10::make_intrusive<c10d::TCPStore>(std::string(process->host), store));
    auto options = c10d::ProcessGroupGloo::Options::create(join);
    const std::string devices(process->devices);
    for (size_t at = 0; at < devices.size();) {
      const size_t end = std::min(devices.find(',', at), devices.size());
      const std::string name = devices.substr(at, end - at);
      options->devices.push_back(
          name.rfind("if:", 0) == 0
              ? c10d::ProcessGroupGloo::createDeviceForInterface(name.substr(3))
              : c10d::ProcessGroupGloo::createDeviceForHostname(name));
      at = end + 1;
    }
    if (options->devices.empty()) {
      options->devices.push_back(
          c10d::ProcessGroupGloo::createDefaultDevice());
    }
    options->threads = 2;
    group->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        group->store, process->rank, process->size, options);
    group->timeout = milliseconds(process->peer_ms);
  });
  return status == 0 ? group.release() : nullptr;
}

int w2s_group_sum(W2sGroup* group, at::Tensor* tensor, char* text, size_t size) {
  return guarded({text, size}, [&] {
    check(*tensor);
    std::vector<at::Tensor> tensors{*tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::SUM;
    options.timeout = group->timeout;
    group->gloo->allreduce(tensors, options)->wait();
  });
}

int w2s_group_broadcast(
    W2sGroup* group,
    at::Tensor* tensor,
    int32_t root,
    char* text,
    size_t size) {
  return guarded({text, size}, [&] {
    check(*tensor);
    std::vector<at::Tensor> tensors{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.rootTensor = 0;
    options.timeout = group->timeout;
    group->gloo->broadcast(tensors, options)->wait();
  });
}

void w2s_group_leave(W2sGroup* group) {
  delete group;
}

} // extern "C"
