// Writing past the caches.
#pragma once

#include "buffer.h"

namespace {

// Rows written past the caches, whole lines of them: what is too large to stay there needs not be read before it is
// written. A line that one row ends in and the next begins in is held back until it is whole. Others see what was
// written after `finish`.
struct Stream {
    float* next = nullptr;  // where `held` belongs, of a line
    long held = 0;
    alignas(LINE) float line[LINE_FLOATS];

    void write(float* out, const float* row, long n) {
        if (!(held && next + held == out)) {
            flush();
            const long ahead = reinterpret_cast<uintptr_t>(out) / sizeof(float) % LINE_FLOATS;
            if (ahead) {
                const long head = LINE_FLOATS - ahead < n ? LINE_FLOATS - ahead : n;
                std::memcpy(out, row, head * sizeof(float));
                out += head;
                row += head;
                n -= head;
            }
            next = out;
        }
        if (held) {
            const long rest = LINE_FLOATS - held < n ? LINE_FLOATS - held : n;
            std::memcpy(line + held, row, rest * sizeof(float));
            held += rest;
            row += rest;
            n -= rest;
            if (held < LINE_FLOATS) return;
            store_line(next, line);
            next += LINE_FLOATS;
        }
        long x = 0;
        for (; x + LINE_FLOATS <= n; x += LINE_FLOATS) store_line(next + x, row + x);
        next += x;
        held = n - x;
        std::memcpy(line, row + x, held * sizeof(float));
    }

    void flush() {
        if (held) std::memcpy(next, line, held * sizeof(float));
        held = 0;
    }

  private:
    static void store_line(float* out, const float* row) {
#if LF_AVX2
        _mm256_stream_ps(out, (__m256)load<v8f>(row));
        _mm256_stream_ps(out + 8, (__m256)load<v8f>(row + 8));
#else
        std::memcpy(out, row, LINE);
#endif
    }
};

}  // namespace
