// What a GPU has free, which tch does not tell. Called by src/lm/device.rs only.

#include "message.h"

#include <c10/core/CachingDeviceAllocator.h>

extern "C" {

int w2s_free_memory(int32_t device, uint64_t* free, char* text, size_t size) {
  return guarded({text, size}, [&] {
    auto* const allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    *free = allocator->getMemoryInfo(static_cast<c10::DeviceIndex>(device)).first;
  });
}

} // extern "C"
