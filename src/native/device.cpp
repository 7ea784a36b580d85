// What tch does not tell or do about a device. Called by src/lm/native.rs only. A tensor is tch's
// C_tensor*, an at::Tensor*.

#include "message.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <dlfcn.h>

extern "C" {

// What a GPU has free, and what the allocator holds of it without using it.
int w2s_free_memory(int32_t device, uint64_t* free, char* text, size_t size) {
  return guarded({text, size}, [&] {
    auto* const allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    const auto index = static_cast<c10::DeviceIndex>(device);
    *free = allocator->getMemoryInfo(index).first;
    if (!allocator->initialized()) {
      return;
    }
    // The first of a statistic's kinds is of all pools.
    const auto stats = allocator->getDeviceStats(index);
    const int64_t idle = stats.reserved_bytes.at(0).current - stats.allocated_bytes.at(0).current;
    *free += static_cast<uint64_t>(std::max<int64_t>(idle, 0));
  });
}

// Gives memory that is not used back to the GPU, after it ran out in pieces.
int w2s_empty_cache(char* text, size_t size) {
  return guarded({text, size}, [&] {
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
  });
}

// Major and minor compute capability of a GPU, from the CUDA runtime that libtorch has loaded.
int w2s_capability(int32_t device, int32_t* major, int32_t* minor, char* text, size_t size) {
  return guarded({text, size}, [&] {
    // From driver_types.h; its numbers have never changed.
    constexpr int kMajor = 75;
    constexpr int kMinor = 76;
    using Attribute = int (*)(int*, int, int);
    const auto attribute =
        reinterpret_cast<Attribute>(dlsym(RTLD_DEFAULT, "cudaDeviceGetAttribute"));
    TORCH_CHECK(attribute != nullptr, "the CUDA runtime is not loaded");
    TORCH_CHECK(
        attribute(major, kMajor, device) == 0 && attribute(minor, kMinor, device) == 0,
        "the CUDA runtime does not tell it");
  });
}

// Sets `*out` to a copy on a GPU that nothing waits for. The allocator of pinned memory keeps its own
// copy until it has been read.
int w2s_copied(const at::Tensor* from, int32_t device, at::Tensor** out, char* text, size_t size) {
  return guarded({text, size}, [&] {
    const c10::Device to(c10::kCUDA, static_cast<c10::DeviceIndex>(device));
    *out = new at::Tensor(from->pin_memory().to(to, /*non_blocking=*/true));
  });
}

// Makes operations deterministic, or lets them be as they are. What has no such form fails; to be warned
// only would leave the way back of FlashAttention as it is.
int w2s_set_deterministic(int32_t on, char* text, size_t size) {
  return guarded({text, size}, [&] {
    at::globalContext().setDeterministicAlgorithms(on != 0, /*warn_only=*/false);
    // Every new tensor would be filled first; none of ours is read before it is written.
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  });
}

// Keeps products in f32 from being made in TF32.
int w2s_forbid_tf32(char* text, size_t size) {
  return guarded({text, size}, [&] {
    at::globalContext().setAllowTF32CuBLAS(false);
    at::globalContext().setAllowTF32CuDNN(false);
  });
}

} // extern "C"
