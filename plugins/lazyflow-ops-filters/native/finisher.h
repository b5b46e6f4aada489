// From rows of terms to rows of results, and from there to the caller's arrays.
#pragma once

#include "convolver.h"
#include "eigen.h"
#include "stream.h"

namespace {

// Results larger than this, in bytes, are written past the caches: nothing of them would stay there until it is read.
constexpr long STREAMED = 1 << 22;
// Rows that do not follow on each other are written past the caches from this length on: each has lines of which it
// writes a part only.
constexpr long LONG_ROW = 1024;

// Turns rows of terms into rows of results.
struct Finisher {
    const lf_image& spec;
    const lf_result* results;
    int count;
    long n;
    bool streamed = false;
    Buffer<real> zeros;
    Buffer<float> values;
    bool finite = true;  // whether all results so far are
    Stream stream[LF_MOST_TERMS][LF_MOST_RESULTS];

    Finisher(const lf_image& spec, const lf_result* results, int count)
        : spec(spec), results(results), count(count), n(whole_vectors(range(spec, 2).size())), zeros(n),
          values(LF_MOST_RESULTS * n) {
        zeros.fill(0);
        long wanted = 0;
        for (int i = 0; i < count; i++)
            for (int j = 0; j < LF_MOST_RESULTS; j++) wanted += results[i].out[j] != nullptr;
        for (int axis = 0; axis < 3; axis++) wanted *= range(spec, axis).size();
        streamed = wanted * (long)sizeof(float) > STREAMED && range(spec, 2).size() >= LINE_FLOATS;
    }
    ~Finisher() {
        if (!streamed) return;
        for (int i = 0; i < count; i++)
            for (int j = 0; j < LF_MOST_RESULTS; j++) stream[i][j].flush();
        drain();
    }

    explicit operator bool() const { return zeros && values; }

    void operator()(long z, long y, const real* const* terms) {
        for (int i = 0; i < count; i++) {
            const lf_result& result = results[i];
            const real* rows[LF_MOST_INPUTS];
            for (int j = 0; j < result.inputs; j++)
                rows[j] = result.terms[j] < 0 ? zeros.data : terms[result.terms[j]];
            float* made[LF_MOST_RESULTS] = {values.data, values.data + n, values.data + 2 * n};
            const float* source[LF_MOST_RESULTS] = {made[0], made[1], made[2]};
            switch (result.kind) {
#ifdef LF_DOUBLE
                case LF_COPY_WIDE: write_wide(result, z, y, rows[0]); continue;
                case LF_COPY: row_copy(rows, made[0], n); break;
#else
                case LF_COPY: source[0] = rows[0]; break;
#endif
                case LF_DIFFERENCE: row_difference(rows, made[0], n); break;
                case LF_SUM: row_sum(rows, result.inputs, made[0], n); break;
                case LF_NORM: row_norm(rows, result.inputs, made[0], n); break;
                case LF_EIGENVALUES:
                    if (result.inputs == 3) row_eigenvalues2(rows, made, n);
                    else row_eigenvalues3(rows, made, n);
                    break;
                case LF_EIGENVALUES_SINGLE:
                    if (result.inputs == 3) row_eigenvalues2(rows, made, n);
                    else row_eigenvalues3_single(rows, made, n);
                    break;
            }
            for (int j = 0; j < LF_MOST_RESULTS; j++)
                if (result.out[j]) {
                    look_at(source[j]);
                    write(stream[i][j], static_cast<float*>(result.out[j]), result.stride[j], z, y, source[j]);
                }
        }
    }

#ifdef LF_DOUBLE
    void look_at(const float*) {}

    void write_wide(const lf_result& result, long z, long y, const double* row) const {
        const int64_t* stride = result.stride[0];
        double* out = static_cast<double*>(result.out[0]);
        out += (z - spec.start[0]) * stride[0] + (y - spec.start[1]) * stride[1];
        for (long x = 0; x < range(spec, 2).size(); x++) out[x * stride[2]] = row[x];
    }
#else
    // Neither infinity nor NaN has another exponent than the largest.
    void look_at(const float* row) {
        const v8i largest = 0x7f800000 - (v8i){};
        v8i beyond = {};
        for (long x = 0; x < range(spec, 2).size() / 8 * 8; x += 8)
            beyond |= ((v8i)load<v8f>(row + x) & largest) == largest;
        for (long x = range(spec, 2).size() / 8 * 8; x < range(spec, 2).size(); x++)
            beyond[0] |= !(__builtin_fabsf(row[x]) <= __FLT_MAX__);
        int any = 0;
        for (int i = 0; i < 8; i++) any |= beyond[i];
        finite = finite && !any;
    }
#endif

    void write(Stream& past, float* out, const int64_t* stride, long z, long y, const float* row) {
        out += (z - spec.start[0]) * stride[0] + (y - spec.start[1]) * stride[1];
        const long length = range(spec, 2).size();
        if (stride[2] != 1)
            for (long x = 0; x < length; x++) out[x * stride[2]] = row[x];
        else if (streamed && (stride[1] == length || length >= LONG_ROW))
            past.write(out, row, length);
        else {
            // A line is fetched before it is overwritten, and the processor cannot guess where the next row is.
            for (long x = 0; x < length; x += LINE_FLOATS) __builtin_prefetch(out + 4 * stride[1] + x, 1);
            copy_pixels(out, row, length);
        }
    }
};

}  // namespace
