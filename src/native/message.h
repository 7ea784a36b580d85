// How a failure in C++ is told to Rust: no exception leaves, the caller's buffer has the message.

#pragma once

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <exception>

struct Message {
  char* text;
  size_t size;

  void set(const char* what) const {
    const size_t length = std::min(std::strlen(what), size - 1);
    std::memcpy(text, what, length);
    text[length] = 0;
  }
};

// Returns 0, or 1 with a message when `work` threw.
template <class F>
int guarded(Message message, F work) {
  try {
    work();
    return 0;
  } catch (const c10::Error& error) {
    message.set(error.what_without_backtrace());
  } catch (const std::exception& error) {
    message.set(error.what());
  } catch (...) {
    message.set("unknown C++ exception");
  }
  return 1;
}
